/* Clips and arrays: colours against the standards' values, the structure of an mp4 read box by box, and
 * what a failure leaves behind. */
#define _GNU_SOURCE /* O_TMPFILE */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "support/decode.h"
#include "video/video.h"

static char folder[64];

static const char *in_folder(const char *name)
{
    static char path[2][512];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/kinowatt-video-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

/* The number of files in the folder, hidden ones too; all removed when `clear`. */
static int count_files(bool clear)
{
    DIR *dir = opendir(folder);
    int files = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        files++;
        if (clear) remove(in_folder(e->d_name));
    }
    closedir(dir);
    return files;
}

static int remove_folder(void **state)
{
    (void)state;
    count_files(true);
    return rmdir(folder);
}

static unsigned char *read_file(const char *path, size_t *size)
{
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    unsigned char *bytes = malloc(1 << 20);
    *size = fread(bytes, 1, 1 << 20, in);
    assert_true(*size < 1 << 20);
    fclose(in);
    return bytes;
}

/* Whether files without a name can be made there: what is left by SIGKILL then has none. */
static bool has_unnamed_files(void)
{
    int fd = -1;
#ifdef O_TMPFILE
    fd = open(folder, O_TMPFILE | O_WRONLY, 0600);
    if (fd >= 0) close(fd);
#endif
    return fd >= 0;
}

/* A clip of `frames` moving stripes, finished. */
static kw_status write_clip(const char *path, const struct kw__video_settings *s, int frames, kw_error *err)
{
    struct kw__video *video;
    kw_status status = kw__video_open(path, s, &video, err);
    if (status) return status;
    uint8_t *rgb = malloc((size_t)(s->width * s->height * 3));
    for (int f = 0; f < frames && !status; f++) {
        for (int64_t i = 0; i < s->width * s->height; i++)
            for (int k = 0; k < 3; k++) rgb[3 * i + k] = (uint8_t)(i * (3 + k) + 9 * f + (i * i) % 31);
        status = kw__video_write(video, rgb, 1, err);
    }
    free(rgb);
    if (!status) return kw__video_finish(video, err);
    kw__video_discard(video);
    return status;
}

/* ---- y4m and colours --------------------------------------------------------------------------- */

static void expect_colour(int64_t width, int64_t height, const uint8_t rgb[3], int y, int cb, int cr)
{
    const char *path = in_folder("colour.y4m");
    const struct kw__video_settings s = {width, height, 16, NULL};
    size_t pixels = (size_t)(width * height), size;
    uint8_t *frame = malloc(pixels * 3);
    for (size_t i = 0; i < pixels * 3; i++) frame[i] = rgb[i % 3];
    struct kw__video *video;
    assert_int_equal(kw__video_open(path, &s, &video, NULL), KW_OK);
    assert_int_equal(kw__video_write(video, frame, 1, NULL), KW_OK);
    assert_int_equal(kw__video_finish(video, NULL), KW_OK);
    unsigned char *bytes = read_file(path, &size), *at = memchr(bytes, '\n', size);
    at += 1 + 6; /* FRAME */
    assert_int_equal(bytes + size - at, pixels * 3 / 2);
    for (size_t i = 0; i < pixels; i++) assert_int_equal(at[i], y);
    for (size_t i = 0; i < pixels / 4; i++) assert_int_equal(at[pixels + i], cb);
    for (size_t i = 0; i < pixels / 4; i++) assert_int_equal(at[pixels + pixels / 4 + i], cr);
    free(bytes);
    free(frame);
}

/* The 8-bit values of ITU-R BT.601 and BT.709 that every table of test colours has. */
static void test_colours(void **state)
{
    (void)state;
    expect_colour(4, 4, (const uint8_t[]){255, 255, 255}, 235, 128, 128);
    expect_colour(4, 2, (const uint8_t[]){0, 0, 0}, 16, 128, 128);
    expect_colour(2, 4, (const uint8_t[]){255, 0, 0}, 81, 90, 240);
    expect_colour(2, 2, (const uint8_t[]){0, 255, 0}, 145, 54, 34);
    expect_colour(2, 2, (const uint8_t[]){0, 0, 255}, 41, 240, 110);
    expect_colour(1280, 2, (const uint8_t[]){255, 0, 0}, 63, 102, 240);
    expect_colour(2, 578, (const uint8_t[]){0, 255, 0}, 173, 42, 26);
    expect_colour(1280, 2, (const uint8_t[]){0, 0, 255}, 32, 240, 118);
    for (int grey = 0; grey < 256; grey += 5) {
        const uint8_t rgb[] = {(uint8_t)grey, (uint8_t)grey, (uint8_t)grey};
        expect_colour(2, 2, rgb, (int)(16 + 219.0 * grey / 255 + 0.5), 128, 128);
    }
    count_files(true);
}

/* Layout: luma by pixel, chroma of the mean of four. */
static void test_y4m(void **state)
{
    (void)state;
    const char *path = in_folder("clip.y4m");
    const struct kw__video_settings s = {4, 2, 24 / 1.001, "comment"};
    uint8_t rgb[2][24] = {{0}};
    memset(rgb[0] + 3, 255, 3);      /* frame 0: pixel (1, 0) is white */
    memset(rgb[1] + 3 * 4, 255, 12); /* frame 1: the lower row is white */
    struct kw__video *video;
    size_t size;
    assert_int_equal(kw__video_open(path, &s, &video, NULL), KW_OK);
    assert_int_equal(kw__video_write(video, rgb[0], 2, NULL), KW_OK);
    assert_int_equal(access(path, F_OK), -1); /* not before it is whole */
    assert_int_equal(kw__video_finish(video, NULL), KW_OK);
    static const char wanted[] = "YUV4MPEG2 W4 H2 F24000:1001 Ip A1:1 C420jpeg XCOLORRANGE=LIMITED\n"
                                 "FRAME\n"
                                 "\020\353\020\020\020\020\020\020\200\200\200\200"
                                 "FRAME\n"
                                 "\020\020\020\020\353\353\353\353\200\200\200\200";
    unsigned char *bytes = read_file(path, &size);
    assert_int_equal(size, sizeof wanted - 1);
    assert_memory_equal(bytes, wanted, size);
    free(bytes);
    count_files(true);
}

static void test_rates(void **state)
{
    (void)state;
    static const struct {
        double fps;
        const char *text;
    } cases[] = {{16, " F16:1 "},
                 {29.97, " F30000:1001 "},
                 {23.976, " F24000:1001 "},
                 {12.5, " F12500:1000 "},
                 {0.5, " F500:1000 "}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct kw__video_settings s = {2, 2, cases[i].fps, NULL};
        size_t size;
        assert_int_equal(write_clip(in_folder("r.y4m"), &s, 1, NULL), KW_OK);
        unsigned char *bytes = read_file(in_folder("r.y4m"), &size);
        bytes[size] = '\0';
        if (!strstr((char *)bytes, cases[i].text)) fail_msg("%g gives %.60s", cases[i].fps, (char *)bytes);
        free(bytes);
    }
    count_files(true);
}

/* ---- mp4 ---------------------------------------------------------------------------------------- */

static uint32_t big_endian(const unsigned char *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

/* The content of the first box with this path ("moov/trak"), and its size; NULL: there is none. */
static const unsigned char *find_box(const unsigned char *at, size_t size, const char *path, size_t *found)
{
    while (size >= 8) {
        uint32_t length = big_endian(at);
        assert_true(length >= 8 && length <= size);
        if (memcmp(at + 4, path, 4) == 0) {
            *found = length - 8;
            return path[4] ? find_box(at + 8, length - 8, path + 5, found) : at + 8;
        }
        at += length;
        size -= length;
    }
    assert_int_equal(size, 0); /* the boxes fill their parent */
    return NULL;
}

static void need_mp4(void)
{
    kw_error err;
    if (kw__mp4_ready(&err) == KW_OK) return;
    print_message("%s\n", err.message);
    skip();
}

static void test_mp4(void **state)
{
    (void)state;
    need_mp4();
    const char *comment = "{\"seed\":42,\"prompt\":\"caf\xC3\xA9 \xE2\x80\x93 \\\"quoted\\\"\"}";
    const struct kw__video_settings s = {96, 64, 16, comment};
    enum { FRAMES = 21 };
    kw_error err;
    if (write_clip(in_folder("clip.mp4"), &s, FRAMES, &err)) fail_msg("%s", err.message);
    size_t size, again, n;
    unsigned char *bytes = read_file(in_folder("clip.mp4"), &size);
    assert_non_null(find_box(bytes, size, "mdat", &n));
    assert_true(n > 500);
    const unsigned char *stsz = find_box(bytes, size, "moov/trak/mdia/minf/stbl/stsz", &n);
    assert_int_equal(big_endian(stsz + 8), FRAMES);
    const unsigned char *mdhd = find_box(bytes, size, "moov/trak/mdia/mdhd", &n);
    assert_int_equal((double)big_endian(mdhd + 16) / big_endian(mdhd + 12) * 16, FRAMES); /* duration */
    assert_int_equal(big_endian(mdhd + 4), 0);                                            /* no date */
    const unsigned char *tkhd = find_box(bytes, size, "moov/trak/tkhd", &n);
    assert_int_equal(big_endian(tkhd + n - 8) >> 16, 96);
    assert_int_equal(big_endian(tkhd + n - 4) >> 16, 64);
    const unsigned char *stsd = find_box(bytes, size, "moov/trak/mdia/minf/stbl/stsd", &n);
    assert_memory_equal(stsd + 12, "avc1", 4);
    const unsigned char *udta = find_box(bytes, size, "moov/udta/meta", &n);
    bool found = false;
    for (size_t i = 0; i + strlen(comment) <= n; i++)
        found |= memcmp(udta + i, comment, strlen(comment)) == 0;
    assert_true(found);
    /* the same frames, the same bytes; and nothing else in the folder */
    assert_int_equal(write_clip(in_folder("again.mp4"), &s, FRAMES, NULL), KW_OK);
    unsigned char *second = read_file(in_folder("again.mp4"), &again);
    assert_int_equal(size, again);
    assert_memory_equal(bytes, second, size);
    free(bytes);
    free(second);
    assert_int_equal(count_files(true), 2);
}

/* Pictures of two flat halves, whose colours no two pictures in a row share. */
enum { WIDE = 96, HIGH = 64 };
static const uint8_t paints[3][3] = {{255, 0, 0}, {0, 255, 0}, {0, 0, 255}};
/* Y, Cb, Cr of red, green and blue by ITU-R BT.601, as in test_colours */
static const int painted[3][3] = {{81, 90, 240}, {145, 54, 34}, {41, 240, 110}};

static void see_halves(void *user, int index, uint8_t *const plane[3], const int line[3])
{
    int *worst = user;
    for (int p = 0; p < 3; p++) {
        int width = p ? WIDE / 2 : WIDE, height = p ? HIGH / 2 : HIGH;
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                int off = abs(plane[p][y * line[p] + x] - painted[(index + (x >= width / 2)) % 3][p]);
                if (off > *worst) *worst = off;
            }
    }
}

/* What is decoded is what was written. x264 keeps such flat pictures exactly, and another encoder may be a
 * few levels off; two of the colours are more than 100 apart in some plane. */
static void test_mp4_shows_the_pictures(void **state)
{
    (void)state;
    need_mp4();
    if (!decode_ready()) skip();
    const struct kw__video_settings s = {WIDE, HIGH, 16, NULL};
    enum { FRAMES = 9 };
    static uint8_t rgb[WIDE * HIGH * 3];
    struct kw__video *video;
    assert_int_equal(kw__video_open(in_folder("clip.mp4"), &s, &video, NULL), KW_OK);
    for (int f = 0; f < FRAMES; f++) {
        for (int i = 0; i < WIDE * HIGH; i++)
            memcpy(rgb + 3 * i, paints[(f + (i % WIDE >= WIDE / 2)) % 3], 3);
        assert_int_equal(kw__video_write(video, rgb, 1, NULL), KW_OK);
    }
    assert_int_equal(kw__video_finish(video, NULL), KW_OK);
    int worst = 0;
    assert_int_equal(decode(in_folder("clip.mp4"), see_halves, &worst), FRAMES);
    if (worst > 6) fail_msg("a pixel is off by %d", worst);
    count_files(true);
}

/* ---- Faults --------------------------------------------------------------------------------------- */

static void expect_refused(const char *path, struct kw__video_settings s, kw_status wanted, const char *words)
{
    kw_error err = {KW_OK, ""};
    struct kw__video *video = NULL;
    assert_int_equal(kw__video_check(path, &s, &err), wanted);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    assert_int_equal(kw__video_open(path, &s, &video, &err), wanted);
    assert_null(video);
}

static void test_refused(void **state)
{
    (void)state;
    const struct kw__video_settings good = {16, 16, 16, NULL};
    expect_refused(in_folder("clip.avi"), good, KW_ERROR_USAGE, "give .mp4 or .y4m");
    expect_refused(in_folder("clip"), good, KW_ERROR_USAGE, "give .mp4 or .y4m");
    expect_refused(".y4m", good, KW_ERROR_USAGE, "give .mp4 or .y4m");
    expect_refused(in_folder(".y4m"), good, KW_ERROR_USAGE, "give .mp4 or .y4m");
    expect_refused(in_folder("a.y4m"), (struct kw__video_settings){15, 16, 16, NULL}, KW_ERROR_UNSUPPORTED,
                   "15x16");
    expect_refused(in_folder("a.y4m"), (struct kw__video_settings){16, 0, 16, NULL}, KW_ERROR_UNSUPPORTED,
                   "16x0");
    expect_refused(in_folder("a.y4m"), (struct kw__video_settings){16, 16, 0, NULL}, KW_ERROR_USAGE, "fps 0");
    expect_refused(in_folder("no/such/clip.y4m"), good, KW_ERROR_IO, "create the folder first");
    expect_refused("/proc/clip.y4m", good, KW_ERROR_IO, "cannot write /proc/clip.y4m");
    mkdir(in_folder("dir.y4m"), 0700);
    expect_refused(in_folder("dir.y4m"), good, KW_ERROR_IO, "name a file in that folder");
    assert_int_equal(kw__video_check(in_folder("ok.y4m"), &good, NULL), KW_OK);
    assert_int_equal(count_files(true), 1); /* the folder alone: checking leaves nothing */
}

static void test_full_disk(void **state)
{
    (void)state;
    kw_error err;
    const struct kw__video_settings s = {96, 64, 16, NULL};
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(write_clip("/dev/full", &s, 3, &err), KW_ERROR_IO);
        assert_non_null(
            strstr(err.message, "cannot write /dev/full: No space left on device; free some space"));
    }
    /* a limit of the file's size stands for a full disk where there is a real file */
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = old;
    limit.rlim_cur = 20000;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    kw_status y4m = write_clip(in_folder("clip.y4m"), &s, 9, &err);
    kw_error mp4_err = {KW_OK, ""};
    kw_status mp4 = kw__mp4_ready(NULL) ? KW_ERROR_IO : write_clip(in_folder("clip.mp4"), &s, 40, &mp4_err);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, handler);
    assert_int_equal(y4m, KW_ERROR_IO);
    assert_non_null(strstr(err.message, "clip.y4m: File too large; raise the limit"));
    assert_int_equal(mp4, KW_ERROR_IO);
    if (mp4_err.code) assert_non_null(strstr(mp4_err.message, "clip.mp4: File too large; raise the limit"));
    assert_int_equal(count_files(true), 0);
}

/* Killed at any moment, nothing has the clip's name; what was there before stays. */
static void test_killed(void **state)
{
    (void)state;
    const struct kw__video_settings s = {96, 64, 16, NULL};
    const char *const names[] = {"clip.y4m", "clip.mp4"};
    for (int i = 0; i < (kw__mp4_ready(NULL) ? 1 : 2); i++) {
        FILE *old = fopen(in_folder(names[i]), "w");
        fputs("old", old);
        fclose(old);
        pid_t child = fork();
        if (child == 0) {
            static uint8_t rgb[96 * 64 * 3];
            struct kw__video *video;
            if (kw__video_open(in_folder(names[i]), &s, &video, NULL)) _exit(1);
            for (int f = 0; f < 60; f++)
                if (kw__video_write(video, rgb, 1, NULL)) _exit(2);
            raise(SIGKILL);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        size_t size;
        unsigned char *bytes = read_file(in_folder(names[i]), &size);
        assert_int_equal(size, 3);
        free(bytes);
        int files = count_files(true);
        if (has_unnamed_files()) assert_int_equal(files, 1);
    }
}

/* ---- Paths -------------------------------------------------------------------------------------- */

static void make_file(const char *path)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
}

static void test_same_file(void **state)
{
    (void)state;
    char a[512], b[512];
    snprintf(a, sizeof a, "%s/a", folder);
    snprintf(b, sizeof b, "%s/../%s/./a", folder, strrchr(folder, '/') + 1);
    assert_int_equal(mkdir(in_folder("sub"), 0700), 0);
    for (int there = 0; there < 2; there++) {
        assert_true(kw__pending_same(a, a));
        assert_true(kw__pending_same(a, b));
        assert_false(kw__pending_same(a, in_folder("b")));
        assert_false(kw__pending_same(a, in_folder("sub/a")));
        assert_int_equal(symlink("a", in_folder("link")), 0);
        assert_int_equal(symlink(folder, in_folder("sub/folder")), 0);
        assert_true(kw__pending_same(a, in_folder("link")));
        assert_true(kw__pending_same(a, in_folder("sub/folder/a")));
        unlink(in_folder("sub/folder"));
        unlink(in_folder("link"));
        if (!there) make_file(a);
    }
    assert_int_equal(link(a, in_folder("hard")), 0);
    assert_true(kw__pending_same(a, in_folder("hard")));
    assert_false(kw__pending_same(in_folder("no/a"), in_folder("nowhere/a")));
    assert_int_equal(symlink("round", in_folder("round")), 0);
    assert_false(kw__pending_same(a, in_folder("round")));
    count_files(true);
}

/* A link to where no file is yet leads there; one to an old file replaces the file and keeps its mode. */
static void test_links(void **state)
{
    (void)state;
    const struct kw__video_settings s = {4, 4, 16, NULL};
    struct stat info;
    assert_int_equal(mkdir(in_folder("sub"), 0700), 0);
    assert_int_equal(symlink("sub/new.y4m", in_folder("one.y4m")), 0);
    assert_int_equal(symlink("one.y4m", in_folder("two.y4m")), 0);
    for (int again = 0; again < 2; again++) {
        assert_int_equal(write_clip(in_folder("two.y4m"), &s, 1 + again, NULL), KW_OK);
        assert_int_equal(lstat(in_folder("sub/new.y4m"), &info), 0);
        assert_true(S_ISREG(info.st_mode) && info.st_size > 30);
        if (again) assert_int_equal(info.st_mode & 0777, 0640);
        assert_int_equal(chmod(in_folder("sub/new.y4m"), 0640), 0);
        assert_int_equal(lstat(in_folder("two.y4m"), &info), 0);
        assert_true(S_ISLNK(info.st_mode));
    }
    assert_int_equal(unlink(in_folder("sub/new.y4m")), 0);
    assert_int_equal(rmdir(in_folder("sub")), 0);
    kw_error err;
    assert_int_equal(write_clip(in_folder("two.y4m"), &s, 1, &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "create the folder first"));
    assert_int_equal(count_files(true), 2);
}

/* A pipe is not opened by the check, which would wait for a reader. */
static void test_pipes(void **state)
{
    (void)state;
    const struct kw__video_settings s = {4, 4, 16, NULL};
    kw_error err;
    assert_int_equal(mkfifo(in_folder("clip.y4m"), 0600), 0);
    assert_int_equal(mkfifo(in_folder("clip.mp4"), 0600), 0);
    alarm(20);
    assert_int_equal(kw__video_check(in_folder("clip.y4m"), &s, NULL), KW_OK);
    if (kw__mp4_ready(NULL) == KW_OK) {
        assert_int_equal(kw__video_check(in_folder("clip.mp4"), &s, &err), KW_ERROR_USAGE);
        assert_non_null(strstr(err.message, "a pipe takes no .mp4"));
    }
    alarm(0);
    count_files(true);
}

/* In a folder with the sticky bit others may make files and not replace ours: said before anything is
 * written, and so is all else that keeps a name from being taken. Root may all of that. */
static void test_sticky_folder(void **state)
{
    (void)state;
    kw_error err;
    char old[512], new[512];
    if (geteuid() != 0) skip(); /* a second user is needed */
    snprintf(old, sizeof old, "%s/old.y4m", folder);
    snprintf(new, sizeof new, "%s/new.y4m", folder);
    make_file(old);
    assert_int_equal(chmod(old, 0666), 0);
    assert_int_equal(chmod(folder, 01777), 0);
    assert_int_equal(kw__pending_check(old, NULL), KW_OK);
    pid_t child = fork();
    if (child == 0) {
        if (setuid(65534)) _exit(1);
        if (kw__pending_check(new, &err)) _exit(2);
        if (kw__pending_check(old, &err) != KW_ERROR_IO) _exit(3);
        _exit(strstr(err.message, "choose a folder you may write to") ? 0 : 4);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    assert_int_equal(chmod(folder, 0700), 0);
    assert_int_equal(count_files(true), 1); /* the old one, and nothing beside it */
}

/* The sizes are those of the files; what is there and what is needed are said. */
static void test_room(void **state)
{
    (void)state;
    const struct kw__video_settings s = {64, 48, 24 / 1.001, NULL};
    const int64_t dim[] = {1, 16, 3, 5, 7};
    static const float data[16 * 3 * 5 * 7];
    struct stat info;
    kw_error err;
    char clip[512], array[512];
    snprintf(clip, sizeof clip, "%s/clip.y4m", folder);
    snprintf(array, sizeof array, "%s/x.npy", folder);
    assert_int_equal(write_clip(clip, &s, 7, NULL), KW_OK);
    assert_int_equal(stat(clip, &info), 0);
    assert_true(kw__video_least_bytes(clip, &s, 7) == (double)info.st_size);
    assert_int_equal(kw__npy_write(array, 5, dim, data, NULL), KW_OK);
    assert_int_equal(stat(array, &info), 0);
    assert_true(kw__npy_bytes(5, dim) == (double)info.st_size);
    if (kw__mp4_ready(NULL) == KW_OK) {
        assert_int_equal(write_clip(in_folder("clip.mp4"), &s, 1, NULL), KW_OK);
        assert_int_equal(stat(in_folder("clip.mp4"), &info), 0);
        assert_true(kw__video_least_bytes("clip.mp4", &s, 1) <= (double)info.st_size);
    }
    const char *const paths[] = {clip, array}, *const special[] = {"/dev/null"};
    assert_int_equal(kw__pending_room(2, paths, (const double[]){1000, 1000}, &err), KW_OK);
    assert_int_equal(kw__pending_room(1, special, (const double[]){1e30}, &err), KW_OK);
    assert_int_equal(kw__pending_room(2, paths, (const double[]){1000, 0x1p70}, &err), KW_ERROR_IO);
    double needed = 0, available = -1;
    const char *figures = strstr(err.message, "clip.y4m: ");
    assert_non_null(figures);
    assert_int_equal(sscanf(figures, "clip.y4m: %lf TiB are needed on its disk and %lf", &needed, &available),
                     2);
    assert_true(needed == 0x1p30 && available >= 0);
    count_files(true);
}

static void test_discarded(void **state)
{
    (void)state;
    const struct kw__video_settings s = {96, 64, 16, NULL};
    static uint8_t rgb[96 * 64 * 3];
    struct kw__video *video;
    assert_int_equal(kw__video_open(in_folder("clip.y4m"), &s, &video, NULL), KW_OK);
    assert_int_equal(kw__video_write(video, rgb, 1, NULL), KW_OK);
    kw__video_discard(video);
    if (!kw__mp4_ready(NULL)) {
        assert_int_equal(kw__video_open(in_folder("clip.mp4"), &s, &video, NULL), KW_OK);
        assert_int_equal(kw__video_write(video, rgb, 1, NULL), KW_OK);
        kw__video_discard(video);
    }
    kw__video_discard(NULL);
    assert_int_equal(count_files(true), 0);
}

/* ---- npy ------------------------------------------------------------------------------------------- */

static void test_npy(void **state)
{
    (void)state;
    const float data[6] = {1, -2, 0.5f, 3, 4, 5};
    const int64_t dim[] = {1, 2, 3}, six[] = {6};
    size_t size;
    assert_int_equal(kw__npy_write(in_folder("x.npy"), 3, dim, data, NULL), KW_OK);
    unsigned char *bytes = read_file(in_folder("x.npy"), &size);
    /* what numpy.save writes for this array */
    static const char wanted[] =
        "\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }";
    assert_int_equal(size, 128 + sizeof data);
    assert_memory_equal(bytes, wanted, sizeof wanted - 1);
    for (size_t i = sizeof wanted - 1; i < 127; i++) assert_int_equal(bytes[i], ' ');
    assert_int_equal(bytes[127], '\n');
    assert_memory_equal(bytes + 128, data, sizeof data);
    free(bytes);
    assert_int_equal(kw__npy_write(in_folder("x.npy"), 1, six, data, NULL), KW_OK);
    bytes = read_file(in_folder("x.npy"), &size);
    bytes[127] = '\0';
    assert_non_null(strstr((char *)bytes + 10, "'shape': (6,), }"));
    free(bytes);
    kw_error err;
    assert_int_equal(kw__npy_write(in_folder("no/x.npy"), 1, six, data, &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "create the folder first"));
    assert_int_equal(count_files(true), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_colours),
                                       cmocka_unit_test(test_y4m),
                                       cmocka_unit_test(test_rates),
                                       cmocka_unit_test(test_mp4),
                                       cmocka_unit_test(test_refused),
                                       cmocka_unit_test(test_full_disk),
                                       cmocka_unit_test(test_killed),
                                       cmocka_unit_test(test_discarded),
                                       cmocka_unit_test(test_npy),
                                       cmocka_unit_test(test_same_file),
                                       cmocka_unit_test(test_links),
                                       cmocka_unit_test(test_pipes),
                                       cmocka_unit_test(test_sticky_folder),
                                       cmocka_unit_test(test_room),
                                       cmocka_unit_test(test_mp4_shows_the_pictures)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
