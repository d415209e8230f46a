/*
 * The report layer: numbers for people, CSV quoting, writing out, tables, ticks and figures.
 * Expectations are worked out by hand from the manuals (out.h, table.h, svg.h) and RFC 4180.
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report/out.h"
#include "report/svg.h"
#include "report/table.h"

#define DASH "\xE2\x80\x93"
#define LEN(a) (sizeof(a) / sizeof((a)[0]))

static void assert_output(struct kw__out *out, const char *expected)
{
    char *text = kw__out_steal(out);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at += strlen(what)) {
        n++;
    }
    return n;
}

/* ---- out ---- */

static void test_out_grows(void **state)
{
    (void)state;
    struct kw__out out;
    kw__out_init(&out);
    assert_null(out.data);
    for (int i = 0; i < 1000; i++) {
        kw__out_printf(&out, "%03d", i);
    }
    kw__out_printf(&out, "%500s", "x"); /* longer than what printf reserves first */
    assert_false(out.failed);
    assert_int_equal(out.len, 3500);
    assert_int_equal(strlen(out.data), 3500);
    assert_memory_equal(out.data + 2997, "999", 3);
    kw__out_free(&out);
    assert_output(&out, "");
}

static void test_out_failure_is_sticky(void **state)
{
    (void)state;
    struct kw__out out;
    kw_error err = {KW_OK, ""};
    volatile size_t huge = SIZE_MAX - 8; /* no memory for that, nor may the compiler see it */
    kw__out_init(&out);
    kw__out_puts(&out, "half");
    kw__out_write(&out, "", huge);
    assert_true(out.failed);
    kw__out_puts(&out, "more");
    kw__out_printf(&out, "%d", 1);
    assert_int_equal(out.len, 4);
    assert_null(kw__out_steal(&out));
    assert_int_equal(kw__out_write_fd(&out, STDOUT_FILENO, &err), KW_ERROR_MEMORY);
    assert_int_equal(kw__out_write_file(&out, "/tmp/kw-never", &err), KW_ERROR_MEMORY);
    assert_int_equal(access("/tmp/kw-never", F_OK), -1);
    kw__out_free(&out);
}

static void test_csv_fields(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"plain", "plain"},   {"a,b", "\"a,b\""},     {"say \"hi\"", "\"say \"\"hi\"\"\""},
        {"a\nb", "\"a\nb\""}, {" lead", "\" lead\""}, {"", ""},
        {"\"", "\"\"\"\""},   {"1.5", "1.5"},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        struct kw__out out;
        kw__out_init(&out);
        kw__out_puts(&out, "");
        kw__out_csv(&out, cases[i][0]);
        assert_output(&out, cases[i][1]);
    }
    struct kw__out out;
    kw__out_init(&out);
    kw__out_csv(&out, NULL);
    assert_output(&out, "");
}

static void test_xml(void **state)
{
    (void)state;
    const char text[] = "<a b='c'>&\"\x01\xFF\xC3\x97";
    struct kw__out out;
    kw__out_init(&out);
    kw__out_xml(&out, text, sizeof text - 1);
    assert_output(&out, "&lt;a b=&#39;c&#39;&gt;&amp;&quot;\xEF\xBF\xBD\xEF\xBF\xBD\xC3\x97");
}

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t used;
        uint32_t code;
    } cases[] = {
        {"A", 1, 'A'},
        {"\xC2\xB1", 2, 0xB1},
        {"\xE2\x80\xA6", 3, 0x2026},
        {"\xF0\x9F\x8E\xAC", 4, 0x1F3AC},
        {"\xC0\x80", 1, 0xFFFD},     /* overlong NUL */
        {"\xE0\x80\xAF", 1, 0xFFFD}, /* overlong slash */
        {"\xED\xA0\x80", 1, 0xFFFD}, /* surrogate */
        {"\xF4\x90\x80\x80", 1, 0xFFFD},
        {"\xE2\x80", 1, 0xFFFD}, /* cut off */
        {"\x80", 1, 0xFFFD},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        uint32_t code;
        assert_int_equal(kw__utf8_decode(cases[i].text, strlen(cases[i].text), &code), cases[i].used);
        assert_int_equal(code, cases[i].code);
    }
}

static void test_numbers_for_people(void **state)
{
    (void)state;
    static const struct {
        const char *(*format)(char *, double);
        double value;
        const char *expected;
    } cases[] = {
        {kw__format_seconds, 0.85, "0.85 s"},
        {kw__format_seconds, 0.0125, "12.5 ms"},
        {kw__format_seconds, 3.2e-6, "3.20 \xC2\xB5s"},
        {kw__format_seconds, 9.996, "10.0 s"},
        {kw__format_seconds, 45.31, "45.3 s"},
        {kw__format_seconds, 59.96, "1 min 00 s"},
        {kw__format_seconds, 192.3, "3 min 12 s"},
        {kw__format_seconds, 3599.7, "1 h 00 min"},
        {kw__format_seconds, 3840, "1 h 04 min"},
        {kw__format_seconds, 86400 * 5 + 3 * 3600, "5 d 03 h"},
        {kw__format_seconds, 0, "0 s"},
        {kw__format_seconds, -192.3, "-3 min 12 s"},
        {kw__format_seconds, NAN, DASH},
        {kw__format_seconds, INFINITY, "inf s"},
        {kw__format_wh, 0.11, "0.11 Wh"},
        {kw__format_wh, 0.05, "50.0 mWh"},
        {kw__format_wh, 359.7, "359.7 Wh"},
        {kw__format_wh, 999.96, "1.00 kWh"},
        {kw__format_wh, 1320, "1.32 kWh"},
        {kw__format_wh, NAN, DASH},
        {kw__format_fine_seconds, 0.6971, "0.697 s"},
        {kw__format_fine_seconds, 0.9996, "1.00 s"},
        {kw__format_fine_seconds, 192.3, "3 min 12 s"},
        {kw__format_fine_seconds, 0.0125, "12.5 ms"},
        {kw__format_fine_seconds, NAN, DASH},
        {kw__format_fine_wh, 0.1138, "0.114 Wh"},
        {kw__format_fine_wh, 0.000788, "0.788 mWh"},
        {kw__format_fine_wh, 8.3, "8.30 Wh"},
        {kw__format_fine_wh, 359.7, "359.7 Wh"},
        {kw__format_fine_wh, NAN, DASH},
        {kw__format_flop, 1.24e18, "1.24 EFLOP"},
        {kw__format_flop, 283.0e12, "283.0 TFLOP"},
        {kw__format_bytes, 31.2e9, "31.2 GB"},
        {kw__format_bytes, 512, "512 B"},
        {kw__format_bytes, 0, "0 B"},
        {kw__format_bytes, 999.7e6, "1.00 GB"},
        {kw__format_w, 689, "689 W"},
        {kw__format_w, 62.44, "62.4 W"},
        {kw__format_w, 1250, "1.25 kW"},
        {kw__format_percent, 0.1234, "12.3 %"},
        {kw__format_percent, 0.0052, "0.52 %"},
        {kw__format_percent, 1, "100 %"},
        {kw__format_percent, -0.05, "-5.00 %"},
        {kw__format_percent, NAN, DASH},
        {kw__format_exact, 0.1, "0.1"},
        {kw__format_exact, 1.0 / 3, "0.3333333333333333"},
        {kw__format_exact, 1806336, "1806336"},
        {kw__format_exact, NAN, ""},
    };
    for (size_t i = 0; i < LEN(cases); i++) {
        char buffer[KW__FORMAT_SIZE];
        assert_string_equal(cases[i].format(buffer, cases[i].value), cases[i].expected);
    }
}

static void test_numbers_fit_the_buffer(void **state)
{
    (void)state;
    static const double values[] = {1.7976931348623157e308, -1.7976931348623157e308, 5e-324,
                                    -2.2250738585072014e-308, 123456789.123456789};
    for (size_t i = 0; i < LEN(values); i++) {
        char buffer[KW__FORMAT_SIZE];
        assert_true(strlen(kw__format_seconds(buffer, values[i])) < KW__FORMAT_SIZE - 1);
        assert_true(strlen(kw__format_flop(buffer, values[i])) < KW__FORMAT_SIZE - 1);
        assert_true(strlen(kw__format_percent(buffer, values[i] / 1000)) < KW__FORMAT_SIZE - 1);
        assert_true(strtod(kw__format_exact(buffer, values[i]), NULL) == values[i]);
    }
}

/* ---- writing ---- */

struct folder {
    char path[64];
};

static int make_folder(void **state)
{
    struct folder *folder = malloc(sizeof *folder);
    if (folder == NULL) {
        return -1;
    }
    (void)snprintf(folder->path, sizeof folder->path, "/tmp/kw-report-XXXXXX");
    *state = folder;
    return mkdtemp(folder->path) == NULL ? -1 : 0;
}

static const char *in(const struct folder *folder, const char *name, char *path, size_t n)
{
    (void)snprintf(path, n, "%s/%s", folder->path, name);
    return path;
}

/* Files in the folder; with `remove_them` also removes them. */
static int files(const struct folder *folder, bool remove_them)
{
    int n = 0;
    DIR *dir = opendir(folder->path);
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir)) != NULL;) {
        char path[400];
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0) {
            n++;
            if (remove_them) {
                assert_int_equal(unlink(in(folder, e->d_name, path, sizeof path)), 0);
            }
        }
    }
    (void)closedir(dir);
    return n;
}

static int remove_folder(void **state)
{
    struct folder *folder = *state;
    (void)files(folder, true);
    int status = rmdir(folder->path);
    free(folder);
    return status;
}

static void assert_file(const char *path, const char *expected)
{
    char text[256];
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t n = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[n] = '\0';
    assert_string_equal(text, expected);
}

static void test_write_file(void **state)
{
    const struct folder *folder = *state;
    char path[128], link[128];
    kw_error err = {KW_OK, ""};
    struct kw__out out;
    struct stat info;
    kw__out_init(&out);
    kw__out_puts(&out, "one\n");
    (void)in(folder, "a.csv", path, sizeof path);
    assert_int_equal(kw__out_write_file(&out, path, &err), 0);
    assert_file(path, "one\n");
    assert_int_equal(chmod(path, 0640), 0);
    kw__out_puts(&out, "two\n");
    assert_int_equal(symlink("a.csv", in(folder, "link", link, sizeof link)), 0);
    assert_int_equal(kw__out_write_file(&out, link, &err), 0);
    assert_file(path, "one\ntwo\n");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_int_equal(files(folder, false), 2);
    kw__out_free(&out);
}

static void test_write_file_fails_clean(void **state)
{
    const struct folder *folder = *state;
    char path[128];
    kw_error err = {KW_OK, ""};
    struct kw__out out;
    kw__out_init(&out);
    kw__out_puts(&out, "text");
    (void)in(folder, "none/a.csv", path, sizeof path);
    assert_int_equal(kw__out_write_file(&out, path, &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, path));
    assert_non_null(strstr(err.message, "No such file or directory"));
    assert_non_null(strstr(err.message, "create the folder"));
    assert_null(strchr(err.message, '\n'));
    assert_int_equal(files(folder, false), 0);
    assert_int_equal(kw__out_write_file(&out, folder->path, &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "name a file"));
    assert_int_equal(kw__out_write_file(&out, "/nowhere/a\n\x1B[2Jb", &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "/nowhere/a??[2Jb"));
    assert_int_equal(kw__out_write_file(&out, "", &err), KW_ERROR_IO);
    kw__out_free(&out);
}

static void test_write_file_cut_short(void **state)
{
    /* A limit on file sizes stands in for a full disk: the first byte fits, the rest does not. */
    const struct folder *folder = *state;
    char path[128];
    kw_error err = {KW_OK, ""};
    struct kw__out out;
    struct rlimit before;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction old;
    kw__out_init(&out);
    kw__out_puts(&out, "old");
    (void)in(folder, "a.csv", path, sizeof path);
    assert_int_equal(kw__out_write_file(&out, path, &err), 0);
    kw__out_puts(&out, " and new");
    assert_int_equal(sigaction(SIGXFSZ, &ignore, &old), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit tight = {.rlim_cur = 1, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    int status = kw__out_write_file(&out, path, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_int_equal(sigaction(SIGXFSZ, &old, NULL), 0);
    assert_int_equal(status, KW_ERROR_IO);
    assert_non_null(strstr(err.message, "raise the limit"));
    assert_file(path, "old");
    assert_int_equal(files(folder, false), 1);
    kw__out_free(&out);
}

static void test_write_file_to_a_device(void **state)
{
    (void)state;
    kw_error err = {KW_OK, ""};
    struct kw__out out;
    struct stat info;
    kw__out_init(&out);
    kw__out_puts(&out, "text");
    assert_int_equal(kw__out_write_file(&out, "/dev/null", &err), 0);
    assert_int_equal(stat("/dev/null", &info), 0);
    assert_true(S_ISCHR(info.st_mode));
    assert_int_equal(kw__out_write_file(&out, "/dev/full", &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "/dev/full"));
    assert_non_null(strstr(err.message, "No space left on device"));
    kw__out_free(&out);
}

static void test_write_fd_fails(void **state)
{
    (void)state;
    kw_error err = {KW_OK, ""};
    struct kw__out out;
    int ends[2];
    kw__out_init(&out);
    kw__out_puts(&out, "text");
    int fd = open("/dev/full", O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(kw__out_write_fd(&out, fd, &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "No space left on device"));
    assert_int_equal(close(fd), 0);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    struct sigaction before;
    assert_int_equal(sigaction(SIGPIPE, &ignore, &before), 0);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(kw__out_write_fd(&out, ends[1], &err), 0);
    assert_int_equal(close(ends[0]), 0);
    assert_int_equal(kw__out_write_fd(&out, ends[1], &err), KW_ERROR_IO);
    assert_non_null(strstr(err.message, "Broken pipe"));
    assert_int_equal(close(ends[1]), 0);
    assert_int_equal(sigaction(SIGPIPE, &before, NULL), 0);
    kw__out_free(&out);
}

/* ---- tables ---- */

static void fill_table(struct kw__table *table)
{
    static const struct kw__column columns[] = {
        {.title = "Model", .name = "model"},
        {.title = "Latency", .name = "latency_s", .align = KW__ALIGN_RIGHT},
        {.title = "GPU", .unit = "Wh", .name = "gpu_wh", .group = "Energy", .align = KW__ALIGN_RIGHT},
        {.title = "CPU", .unit = "Wh", .name = "cpu_wh", .group = "Energy", .align = KW__ALIGN_RIGHT},
    };
    kw__table_init(table);
    for (size_t c = 0; c < LEN(columns); c++) {
        kw__table_column(table, &columns[c]);
    }
    kw__table_row(table);
    kw__table_text(table, "wan, 1.3b");
    kw__table_value(table, "3 min 12 s", 192.25);
    kw__table_number(table, 1, 89.54);
    kw__table_number(table, 1, NAN);
    kw__table_row_ruled(table);
    kw__table_text(table, "a|b\xC2\xB1\n");
    kw__table_text(table, NULL);
    kw__table_number(table, 1, 0);
}

static void test_table_text(void **state)
{
    (void)state;
    struct kw__table table;
    struct kw__out out;
    fill_table(&table);
    kw__out_init(&out);
    kw__table_render_text(&table, &out);
#define RULE10 "──────────"
    assert_output(&out, "                       ───── Energy ─────\n"
                        "Model         Latency  GPU (Wh)  CPU (Wh)\n" RULE10 RULE10 RULE10 RULE10 "─\n"
                        "wan, 1.3b  3 min 12 s      89.5         –\n" RULE10 RULE10 RULE10 RULE10 "─\n"
                        "a|b±                –       0.0         –\n");
    kw__table_free(&table);
}

static void test_table_csv(void **state)
{
    (void)state;
    struct kw__table table;
    struct kw__out out;
    fill_table(&table);
    kw__out_init(&out);
    kw__table_render_csv(&table, &out);
    assert_output(&out, "model,latency_s,gpu_wh,cpu_wh\n"
                        "\"wan, 1.3b\",192.25,89.54,\n"
                        "\"a|b±\n\",,0,\n");
    kw__table_free(&table);
}

static void test_table_markdown(void **state)
{
    (void)state;
    struct kw__table table;
    struct kw__out out;
    fill_table(&table);
    kw__out_init(&out);
    kw__table_render_markdown(&table, &out);
    assert_output(&out, "| Model     |    Latency | Energy: GPU (Wh) | Energy: CPU (Wh) |\n"
                        "| --------- | ---------: | ---------------: | ---------------: |\n"
                        "| wan, 1.3b | 3 min 12 s |             89.5 |                – |\n"
                        "| a\\|b±     |          – |              0.0 |                – |\n");
    kw__table_free(&table);
}

static void test_table_small_cases(void **state)
{
    (void)state;
    struct kw__table table;
    struct kw__out out;
    kw__out_init(&out);
    kw__table_init(&table);
    kw__table_render_text(&table, &out); /* no columns: nothing */
    kw__table_column(&table, &(struct kw__column){.title = "a"});
    kw__table_column(&table, &(struct kw__column){.title = "b"});
    kw__table_row(&table);
    kw__table_text(&table, "\x1B[31mred");
    kw__table_text(&table, "");
    kw__table_render_text(&table, &out); /* no blanks at line ends, no escape codes */
    assert_output(&out, "a         b\n───────────\n?[31mred\n");
    kw__table_free(&table);

    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "only"});
    kw__table_row(&table);
    kw__table_render_csv(&table, &out); /* a row of nothing is still a row */
    assert_output(&out, "only\n\"\"\n");
    kw__table_free(&table);
}

static void test_table_refuses(void **state)
{
    (void)state;
    struct kw__table table;
    struct kw__out out;
    kw__table_init(&table);
    for (int c = 0; c < KW__TABLE_COLUMNS; c++) {
        kw__table_column(&table, &(struct kw__column){.title = "x"});
    }
    assert_false(table.failed);
    kw__table_column(&table, &(struct kw__column){.title = "x"});
    assert_true(table.failed);
    kw__out_init(&out);
    kw__table_render_text(&table, &out);
    assert_null(kw__out_steal(&out));
    kw__out_free(&out);
    kw__table_free(&table);

    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "x"});
    kw__table_row(&table);
    kw__table_text(&table, "1");
    assert_false(table.failed);
    kw__table_text(&table, "2");
    assert_true(table.failed);
    kw__table_free(&table);
}

static void test_text_columns(void **state)
{
    (void)state;
    assert_int_equal(kw__text_columns("a\xC2\xB1\xE2\x80\x93\xC3\x97\xE2\x80\xA6"), 5);
    assert_int_equal(kw__text_columns("e\xCC\x81"), 1);    /* e and a combining acute */
    assert_int_equal(kw__text_columns("\xE4\xB8\xAD"), 2); /* a CJK character */
    assert_int_equal(kw__text_columns("\xFF\xFE"), 2);     /* two replacement characters */
}

/* ---- ticks ---- */

static void assert_ticks(const double *got, size_t n, const double *expected, size_t n_expected)
{
    assert_int_equal(n, n_expected);
    for (size_t i = 0; i < n; i++) {
        assert_true(got[i] == expected[i]); /* exactly the decimal */
    }
}

static void test_ticks_linear(void **state)
{
    (void)state;
    double t[64];
    size_t n = kw__ticks_linear(0, 1, 6, t, 64);
    assert_ticks(t, n, (const double[]){0, 0.2, 0.4, 0.6, 0.8, 1}, 6);
    n = kw__ticks_linear(0, 1, 5, t, 64);
    assert_ticks(t, n, (const double[]){0, 0.5, 1}, 3);
    n = kw__ticks_linear(-0.31, 0.32, 10, t, 64);
    assert_ticks(t, n, (const double[]){-0.3, -0.2, -0.1, 0, 0.1, 0.2, 0.3}, 7);
    assert_false(signbit(t[3]));
    n = kw__ticks_linear(3, 103, 4, t, 64);
    assert_ticks(t, n, (const double[]){50, 100}, 2);
    n = kw__ticks_linear(1e6, 1.0001e6, 6, t, 64);
    assert_ticks(t, n, (const double[]){1000000, 1000020, 1000040, 1000060, 1000080, 1000100}, 6);
    n = kw__ticks_linear(0, 1, 1000, t, 8); /* never more than fit */
    assert_true(n >= 1 && n <= 8);
    assert_int_equal(kw__ticks_linear(1, 1, 5, t, 64), 0);
    assert_int_equal(kw__ticks_linear(NAN, 1, 5, t, 64), 0);
    assert_int_equal(kw__ticks_linear(0, INFINITY, 5, t, 64), 0);
}

static void test_ticks_log(void **state)
{
    (void)state;
    double t[64];
    size_t n = kw__ticks_log(65536, 1806336, 0, t, 64);
    assert_ticks(t, n, (const double[]){1e5, 2e5, 5e5, 1e6}, 4);
    n = kw__ticks_log(9.9, 1337, 0, t, 64);
    assert_ticks(t, n, (const double[]){10, 20, 50, 100, 200, 500, 1000}, 7);
    n = kw__ticks_log(0.01, 100, 1, t, 64);
    assert_ticks(t, n, (const double[]){0.01, 0.1, 1, 10, 100}, 5);
    n = kw__ticks_log(0.01, 1e4, 2, t, 64);
    assert_ticks(t, n, (const double[]){0.01, 1, 100, 1e4}, 4);
    assert_int_equal(kw__ticks_log(0, 10, 0, t, 64), 0);
    assert_int_equal(kw__ticks_log(-1, 10, 0, t, 64), 0);
}

/* ---- figures ---- */

/* The SVG of one plot; the caller frees it. */
static char *render(const struct kw__plot *plot)
{
    struct kw__out out;
    const struct kw__figure figure = {.plots = plot, .rows = 1, .cols = 1};
    kw__out_init(&out);
    assert_int_equal(kw__figure_render(&figure, &out), 0);
    char *svg = kw__out_steal(&out);
    assert_non_null(svg);
    assert_null(strstr(svg, "nan"));
    assert_null(strstr(svg, "inf"));
    assert_int_equal(count(svg, "<g"), count(svg, "</g>"));
    return svg;
}

static void assert_refused(const struct kw__plot *plot, const struct kw__figure *figure)
{
    struct kw__out out;
    const struct kw__figure simple = {.plots = plot, .rows = 1, .cols = 1};
    kw__out_init(&out);
    assert_int_equal(kw__figure_render(figure != NULL ? figure : &simple, &out), -1);
    assert_true(out.failed);
    kw__out_free(&out);
}

static void test_line_gaps(void **state)
{
    (void)state;
    const double x[] = {0, 1, 2, 3, 4, 5};
    const double y[] = {1, 2, NAN, 4, INFINITY, 6};
    const struct kw__series line = {.kind = KW__SERIES_LINE, .x = x, .y = y, .n = 6};
    const struct kw__plot plot = {.series = &line, .n_series = 1};
    char *svg = render(&plot);
    const char *path = strstr(svg, "stroke-linejoin");
    assert_non_null(path);
    while (strncmp(path, "<path d=\"", 9) != 0) {
        path--;
    }
    path += 9;
    size_t length = strcspn(path, "\"");
    size_t moves = 0, lines = 0;
    for (size_t i = 0; i < length; i++) {
        moves += path[i] == 'M';
        lines += path[i] == 'L';
    }
    assert_int_equal(moves, 3); /* 0-1, 3, 5 */
    assert_int_equal(lines, 1);
    free(svg);
}

static void test_points_skip_what_is_absent(void **state)
{
    (void)state;
    const double x[] = {1, 2, 3, 4, 5};
    const double y[] = {10, NAN, 0, -3, 1000};
    const struct kw__series points = {.kind = KW__SERIES_POINTS, .x = x, .y = y, .n = 5};
    struct kw__plot plot = {.series = &points, .n_series = 1};
    char *svg = render(&plot);
    assert_int_equal(count(svg, "<circle"), 4);
    free(svg);
    plot.y.scale = KW__SCALE_LOG10; /* where 0 and -3 are nowhere */
    svg = render(&plot);
    assert_int_equal(count(svg, "<circle"), 2);
    free(svg);
    plot.y = (struct kw__axis){.min = -5, .max = 50}; /* a point off the axes is not drawn */
    svg = render(&plot);
    assert_int_equal(count(svg, "<circle"), 3);
    free(svg);
}

static void test_positions_are_linear(void **state)
{
    (void)state;
    /* Three points at 0, 1/4 and 1 of both axes: the middle one divides both spans 1 to 3. */
    const double x[] = {0, 25, 100};
    const double y[] = {1, 10, 10000};
    const struct kw__series points = {.kind = KW__SERIES_POINTS, .x = x, .y = y, .n = 3};
    const struct kw__plot plot = {.x = {.min = 0, .max = 100},
                                  .y = {.scale = KW__SCALE_LOG10, .min = 1, .max = 10000},
                                  .series = &points,
                                  .n_series = 1};
    char *svg = render(&plot);
    double cx[3], cy[3];
    const char *at = svg;
    for (int i = 0; i < 3; i++) {
        at = strstr(at, "<circle");
        assert_non_null(at);
        assert_int_equal(sscanf(at, "<circle cx=\"%lf\" cy=\"%lf\"", &cx[i], &cy[i]), 2);
        at++;
    }
    assert_true(fabs((cx[1] - cx[0]) / (cx[2] - cx[0]) - 0.25) < 1e-3);
    assert_true(fabs((cy[1] - cy[0]) / (cy[2] - cy[0]) - 0.25) < 1e-3);
    assert_true(cx[2] > cx[0] && cy[2] < cy[0]);
    free(svg);
}

static void test_bands_and_areas(void **state)
{
    (void)state;
    const double x[] = {0, 1, 2, 3, 4};
    const double low[] = {1, 1, NAN, 1, 1};
    const double high[] = {2, 2, 2, 2, 2};
    const struct kw__series band = {.kind = KW__SERIES_BAND, .x = x, .low = low, .high = high, .n = 5};
    struct kw__plot plot = {.series = &band, .n_series = 1};
    char *svg = render(&plot);
    assert_int_equal(count(svg, "z\" fill="), 2); /* on either side of the gap */
    free(svg);
    /* An unknown part makes all that stands on it unknown, but not what is under it. */
    const struct kw__series areas[] = {
        {.kind = KW__SERIES_AREA, .x = x, .y = high, .n = 5},
        {.kind = KW__SERIES_AREA, .x = x, .y = low, .n = 5, .color = 1},
        {.kind = KW__SERIES_AREA, .x = x, .y = high, .n = 5, .color = 2},
    };
    plot = (struct kw__plot){.series = areas, .n_series = 3};
    svg = render(&plot);
    assert_int_equal(count(svg, "z\" fill="), 1 + 2 + 2);
    assert_int_equal(count(svg, "<pattern"), 2); /* colour 0 is plain */
    free(svg);
}

static void test_bars(void **state)
{
    (void)state;
    const char *const names[] = {"LTX", "WAN <14B> & co"};
    const double gpu[] = {4, 400};
    const double cpu[] = {NAN, 0};
    const struct kw__series bars[] = {
        {.kind = KW__SERIES_BARS, .y = gpu, .n = 2, .label = "GPU"},
        {.kind = KW__SERIES_BARS, .y = cpu, .n = 2, .label = "CPU", .hatch = KW__HATCH_PLAIN},
    };
    struct kw__plot plot = {
        .series = bars, .n_series = 2, .categories = names, .n_categories = 2, .legend = KW__LEGEND_NONE};
    char *svg = render(&plot);
    assert_int_equal(count(svg, "stroke-width=\"0.4\"/>"), 3); /* the absent one is no bar */
    assert_int_equal(count(svg, ">" DASH "</text>"), 1);
    assert_non_null(strstr(svg, "WAN &lt;14B&gt; &amp; co"));
    assert_int_equal(count(svg, "height=\"0.00\""), 1); /* and the measured 0 is one */
    free(svg);
    plot.bars = KW__BARS_STACKED;
    svg = render(&plot);
    assert_int_equal(count(svg, ">" DASH "</text>"), 1);
    free(svg);
    plot.y.scale = KW__SCALE_LOG10;
    assert_refused(&plot, NULL);
}

static void test_labels_are_escaped(void **state)
{
    (void)state;
    const double x[] = {1, 2};
    const struct kw__series line = {.kind = KW__SERIES_LINE, .x = x, .y = x, .n = 2, .label = "a<b>\x02\xFF"};
    const struct kw__plot plot = {
        .title = "T & \"t\"", .x = {.label = "<x>"}, .y = {.label = "y's"}, .series = &line, .n_series = 1};
    const struct kw__figure figure = {
        .title = "<title>", .note = "Source: <a&b>", .plots = &plot, .rows = 1, .cols = 1};
    struct kw__out out, again;
    kw__out_init(&out);
    kw__out_init(&again);
    assert_int_equal(kw__figure_render(&figure, &out), 0);
    assert_int_equal(kw__figure_render(&figure, &again), 0);
    assert_string_equal(out.data, again.data); /* the same bytes each time */
    assert_non_null(strstr(out.data, ">a&lt;b&gt;\xEF\xBF\xBD\xEF\xBF\xBD</text>"));
    assert_non_null(strstr(out.data, ">T &amp; &quot;t&quot;</text>"));
    assert_non_null(strstr(out.data, ">&lt;x&gt;</text>"));
    assert_non_null(strstr(out.data, ">y&#39;s</text>"));
    assert_non_null(strstr(out.data, "<title>&lt;title&gt;</title>"));
    assert_non_null(strstr(out.data, ">Source: &lt;a&amp;b&gt;</text>"));
    assert_non_null(strstr(out.data, "width=\"252.00pt\""));
    kw__out_free(&out);
    kw__out_free(&again);
}

static void test_tick_labels(void **state)
{
    (void)state;
    const double x[] = {65536, 1806336};
    const double y[] = {9.9, 1337};
    const double big[] = {-20000, 20000};
    const struct kw__series points = {.kind = KW__SERIES_POINTS, .x = x, .y = y, .n = 2};
    const struct kw__plot plot = {
        .x = {.scale = KW__SCALE_LOG10}, .y = {.scale = KW__SCALE_LOG10}, .series = &points, .n_series = 1};
    char *svg = render(&plot);
    assert_non_null(strstr(svg, ">10<tspan dy=\"-2.6\" font-size=\"5\">5</tspan></text>"));
    assert_non_null(strstr(svg, ">2\xC3\x97"
                                "10<tspan dy=\"-2.6\" font-size=\"5\">5</tspan>"));
    assert_non_null(strstr(svg, ">1000</text>"));
    free(svg);
    const struct kw__series wide = {.kind = KW__SERIES_POINTS, .x = x, .y = big, .n = 2};
    const struct kw__plot linear = {.series = &wide, .n_series = 1};
    svg = render(&linear);
    assert_non_null(strstr(svg, ">\xE2\x88\x92"
                                "10,000</text>")); /* a minus, not a hyphen */
    /* 1806336 is past a million: the axis is divided, and says by what. */
    assert_non_null(strstr(svg, ">\xC3\x97"
                                "10<tspan dy=\"-2.6\" font-size=\"5\">6</tspan>"));
    free(svg);
}

static void test_no_data(void **state)
{
    (void)state;
    const double nothing[] = {NAN, NAN};
    const struct kw__series line = {
        .kind = KW__SERIES_LINE, .x = nothing, .y = nothing, .n = 2, .label = "absent"};
    struct kw__plot plot = {.title = "t", .series = &line, .n_series = 1};
    char *svg = render(&plot);
    assert_non_null(strstr(svg, ">no data</text>"));
    assert_null(strstr(svg, "text-anchor=\"end\"")); /* no invented numbers on the axes */
    free(svg);
    plot = (struct kw__plot){.title = "t", .y = {.scale = KW__SCALE_LOG10}};
    svg = render(&plot);
    assert_non_null(strstr(svg, ">no data</text>"));
    free(svg);
}

static void test_one_value_and_extremes(void **state)
{
    (void)state;
    static const double values[] = {0, 5, -5, 1e-300, 1e300, -1e300};
    for (size_t i = 0; i < LEN(values); i++) {
        const double x[] = {values[i]};
        const double far[] = {-1e300, values[i], 1e300};
        const struct kw__series one = {.kind = KW__SERIES_POINTS, .x = x, .y = x, .n = 1};
        const struct kw__series line = {.kind = KW__SERIES_LINE, .x = far, .y = far, .n = 3};
        struct kw__plot plot = {.series = &one, .n_series = 1};
        free(render(&plot));
        plot.x.scale = plot.y.scale = KW__SCALE_LOG10;
        free(render(&plot));
        plot = (struct kw__plot){.y = {.min = 0, .max = NAN}, .series = &one, .n_series = 1};
        free(render(&plot));
        plot = (struct kw__plot){.y = {.min = 0, .max = 1}, .series = &line, .n_series = 1};
        free(render(&plot));
    }
}

static void test_panels_share_x(void **state)
{
    (void)state;
    const double x1[] = {1, 2};
    const double x2[] = {3, 4};
    const struct kw__series top = {.kind = KW__SERIES_POINTS, .x = x1, .y = x1, .n = 2};
    const struct kw__series bottom = {.kind = KW__SERIES_POINTS, .x = x2, .y = x2, .n = 2};
    const struct kw__plot plots[] = {
        {.x = {.label = "Steps"}, .y = {.label = "Latency (s)"}, .series = &top, .n_series = 1},
        {.x = {.label = "Steps"}, .y = {.label = "Power (W)"}, .series = &bottom, .n_series = 1},
        {0},
    };
    struct kw__figure figure = {.plots = plots, .rows = 3, .cols = 1, .share_x = true};
    struct kw__out out;
    figure.rows = 2;
    kw__out_init(&out);
    assert_int_equal(kw__figure_render(&figure, &out), 0);
    assert_int_equal(count(out.data, ">Steps</text>"), 1);
    assert_int_equal(count(out.data, "<clipPath id=\"kw-c"), 2);
    kw__out_free(&out);
    figure.share_x = false;
    figure.rows = 3;
    assert_int_equal(kw__figure_render(&figure, &out), 0);
    assert_int_equal(count(out.data, ">Steps</text>"), 2);
    assert_null(strstr(out.data, "no data")); /* the zeroed plot is an empty place */
    kw__out_free(&out);
}

static void test_refused(void **state)
{
    (void)state;
    const double x[] = {1, 2};
    const double other[] = {1, 3};
    const char *const names[] = {"a", "b", "c"};
    const struct kw__series no_x = {.kind = KW__SERIES_LINE, .y = x, .n = 2};
    const struct kw__series no_y = {.kind = KW__SERIES_LINE, .x = x, .n = 2};
    const struct kw__series half = {.kind = KW__SERIES_LINE, .x = x, .y = x, .low = x, .n = 2};
    const struct kw__series bars = {.kind = KW__SERIES_BARS, .y = x, .n = 2};
    const struct kw__series line = {.kind = KW__SERIES_LINE, .x = x, .y = x, .n = 2};
    const struct kw__series areas[] = {{.kind = KW__SERIES_AREA, .x = x, .y = x, .n = 2},
                                       {.kind = KW__SERIES_AREA, .x = other, .y = x, .n = 2}};
    const struct kw__plot good = {.series = &line, .n_series = 1};
    assert_refused(&(struct kw__plot){.series = &no_x, .n_series = 1}, NULL);
    assert_refused(&(struct kw__plot){.series = &no_y, .n_series = 1}, NULL);
    assert_refused(&(struct kw__plot){.series = &half, .n_series = 1}, NULL);
    assert_refused(&(struct kw__plot){.series = &bars, .n_series = 1}, NULL);
    assert_refused(&(struct kw__plot){.series = &bars, .n_series = 1, .categories = names, .n_categories = 3},
                   NULL);
    assert_refused(&(struct kw__plot){.series = areas, .n_series = 2}, NULL);
    assert_refused(&(struct kw__plot){.x = {.min = 2, .max = 1}, .series = &line, .n_series = 1}, NULL);
    assert_refused(&(struct kw__plot){.y = {.scale = KW__SCALE_LOG10, .min = 0, .max = 1},
                                      .series = &line,
                                      .n_series = 1},
                   NULL);
    assert_refused(NULL, &(struct kw__figure){.plots = &good, .rows = 0, .cols = 1});
    assert_refused(NULL, &(struct kw__figure){.plots = NULL, .rows = 1, .cols = 1});
    assert_refused(NULL, &(struct kw__figure){.plots = &good, .rows = 1, .cols = 1, .width_pt = 20});
    assert_refused(NULL, &(struct kw__figure){.plots = &good, .rows = 1, .cols = 1, .id = "a\"b"});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_out_grows),
        cmocka_unit_test(test_out_failure_is_sticky),
        cmocka_unit_test(test_csv_fields),
        cmocka_unit_test(test_xml),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_numbers_for_people),
        cmocka_unit_test(test_numbers_fit_the_buffer),
        cmocka_unit_test_setup_teardown(test_write_file, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_write_file_fails_clean, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(test_write_file_cut_short, make_folder, remove_folder),
        cmocka_unit_test(test_write_file_to_a_device),
        cmocka_unit_test(test_write_fd_fails),
        cmocka_unit_test(test_table_text),
        cmocka_unit_test(test_table_csv),
        cmocka_unit_test(test_table_markdown),
        cmocka_unit_test(test_table_small_cases),
        cmocka_unit_test(test_table_refuses),
        cmocka_unit_test(test_text_columns),
        cmocka_unit_test(test_ticks_linear),
        cmocka_unit_test(test_ticks_log),
        cmocka_unit_test(test_line_gaps),
        cmocka_unit_test(test_points_skip_what_is_absent),
        cmocka_unit_test(test_positions_are_linear),
        cmocka_unit_test(test_bands_and_areas),
        cmocka_unit_test(test_bars),
        cmocka_unit_test(test_labels_are_escaped),
        cmocka_unit_test(test_tick_labels),
        cmocka_unit_test(test_no_data),
        cmocka_unit_test(test_one_value_and_extremes),
        cmocka_unit_test(test_panels_share_x),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
