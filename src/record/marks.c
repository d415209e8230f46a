/* See marks.h. Each process that has a window open is an *owner* with a stack of windows. */
#include "record/marks.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_OWNERS = 256, MAX_DEPTH = 32, NAME_BYTES = 64, MAX_SETTINGS = 256 };

/* Of no process: marks of scripts, and stages that lines of output begin. */
enum { OF_THE_RUN = -1, OF_OUTPUT = -2 };

/* A clock that is shared is read a little later by the one who receives. */
static const double future_s = 1e-3;

struct open {
    char name[NAME_BYTES];
    size_t window;
    bool marked; /* by `mark` */
};

struct owner {
    pid_t pid;
    int depth;
    int64_t over; /* begun beyond what is kept, and not ended */
    struct open open[MAX_DEPTH];
};

struct kw__marks {
    kw_meter *meter;
    size_t whole;
    double begin_s, end_s; /* end: INFINITY until it is known */
    struct owner owners[MAX_OWNERS];
    size_t num_owners;
    struct kw__arena arena;
    struct kw__mark_setting settings[MAX_SETTINGS];
    size_t num_settings;
    size_t *unclosed, num_unclosed, room;
    struct kw__mark_faults faults;
};

struct kw__marks *kw__marks_new(kw_meter *meter, size_t whole, double begin_s)
{
    struct kw__marks *marks = calloc(1, sizeof *marks);
    if (!marks) return NULL;
    kw__arena_init(&marks->arena);
    marks->meter = meter;
    marks->whole = whole;
    marks->begin_s = begin_s;
    marks->end_s = INFINITY;
    return marks;
}

void kw__marks_free(struct kw__marks *marks)
{
    if (!marks) return;
    kw__arena_free(&marks->arena);
    free(marks);
}

/* ---- Windows ---------------------------------------------------------------------------------------- */

/* The owner of a process; a new one when `make`. NULL: there is none, or no room. */
static struct owner *find_owner(struct kw__marks *marks, pid_t pid, bool make)
{
    struct owner *unused = NULL;
    for (size_t i = 0; i < marks->num_owners; i++) {
        struct owner *owner = &marks->owners[i];
        if (owner->pid == pid) return owner;
        if (!unused && owner->depth == 0 && owner->over == 0) unused = owner;
    }
    if (!make) return NULL;
    if (!unused && marks->num_owners < MAX_OWNERS) unused = &marks->owners[marks->num_owners++];
    if (unused) *unused = (struct owner){.pid = pid};
    return unused;
}

static void close_at(struct kw__marks *marks, struct owner *owner, int place, double at_s)
{
    kw_meter_close_window(marks->meter, owner->open[place].window, kw_meter_at_s(marks->meter, at_s), NULL);
    owner->depth--;
    memmove(&owner->open[place], &owner->open[place + 1],
            (size_t)(owner->depth - place) * sizeof *owner->open);
}

/* Closes the innermost, which nobody has ended. A stage begun by `mark` or by a line of output has no end of
 * its own. */
static void abandon(struct kw__marks *marks, struct owner *owner, double at_s)
{
    const struct open *open = &owner->open[owner->depth - 1];
    if (!open->marked) {
        size_t *more =
            kw__arena_grow(&marks->arena, marks->unclosed, marks->num_unclosed, &marks->room, sizeof *more);
        if (more) marks->unclosed = more, more[marks->num_unclosed++] = open->window;
        marks->faults.unclosed++;
    }
    close_at(marks, owner, owner->depth - 1, at_s);
}

/* A script that begins a stage anew has forgotten its end: the stages of a loop do not nest. */
static void abandon_same(struct kw__marks *marks, const char *name, double at_s)
{
    struct owner *owner = find_owner(marks, OF_THE_RUN, false);
    int place = owner ? owner->depth - 1 : -1;
    while (place >= 0 && (owner->open[place].marked || strcmp(owner->open[place].name, name) != 0)) place--;
    while (place >= 0 && owner->depth > place) abandon(marks, owner, at_s);
}

static void begin(struct kw__marks *marks, pid_t pid, const char *name, double at_s, bool marked)
{
    struct owner *owner = find_owner(marks, pid, true);
    size_t window;
    if (!owner || owner->depth == MAX_DEPTH || owner->over > 0) {
        if (owner && !marked) owner->over++;
        marks->faults.over++;
        return;
    }
    size_t parent = owner->depth ? owner->open[owner->depth - 1].window : marks->whole;
    if (kw_meter_open_window(marks->meter, name, (int64_t)parent, kw_meter_at_s(marks->meter, at_s), &window,
                             NULL)) {
        if (!marked) owner->over++; /* marks have no ends of their own */
        marks->faults.over++;
        return;
    }
    struct open *open = &owner->open[owner->depth++];
    *open = (struct open){.window = window, .marked = marked};
    memcpy(open->name, name, strlen(name) + 1);
}

static void end_at(struct kw__marks *marks, struct owner *owner, int place, double at_s)
{
    if (place < owner->depth - 1) marks->faults.out_of_order++;
    close_at(marks, owner, place, at_s);
}

static void end(struct kw__marks *marks, pid_t pid, const char *name, double at_s)
{
    struct owner *owner = find_owner(marks, pid, false);
    if (owner && owner->over > 0) {
        owner->over--; /* taken for the innermost: names are not kept of those */
        return;
    }
    int place = owner ? owner->depth - 1 : -1;
    while (place >= 0 && strcmp(owner->open[place].name, name) != 0) place--;
    if (place < 0)
        marks->faults.unknown++;
    else
        end_at(marks, owner, place, at_s);
}

static void mark(struct kw__marks *marks, pid_t pid, const char *name, double at_s)
{
    struct owner *owner = find_owner(marks, pid, false);
    int place = owner ? owner->depth - 1 : -1;
    while (place >= 0 && !owner->open[place].marked) place--;
    if (place >= 0) end_at(marks, owner, place, at_s);
    begin(marks, pid, name, at_s, true);
}

void kw__marks_stage(struct kw__marks *marks, const char *name, double at_s)
{
    mark(marks, OF_OUTPUT, name, fmin(at_s, marks->end_s));
}

void kw__marks_end(struct kw__marks *marks, double at_s)
{
    marks->end_s = at_s;
}

void kw__marks_finish(struct kw__marks *marks)
{
    for (size_t i = 0; i < marks->num_owners; i++)
        while (marks->owners[i].depth > 0) abandon(marks, &marks->owners[i], marks->end_s);
    marks->num_owners = 0;
}

/* ---- Settings --------------------------------------------------------------------------------------- */

static void set(struct kw__marks *marks, const char *name, const char *value)
{
    size_t place = 0;
    while (place < marks->num_settings && strcmp(marks->settings[place].name, name) != 0) place++;
    if (place < marks->num_settings && strcmp(marks->settings[place].value, value) == 0) return;
    if (place == MAX_SETTINGS) {
        marks->faults.over++;
        return;
    }
    struct kw__mark_setting setting = {place < marks->num_settings ? marks->settings[place].name
                                                                   : kw__arena_strdup(&marks->arena, name),
                                       kw__arena_strdup(&marks->arena, value)};
    if (!setting.name || !setting.value) {
        marks->faults.over++;
        return;
    }
    marks->settings[place] = setting;
    if (place == marks->num_settings) marks->num_settings++;
}

/* ---- Reading lines ---------------------------------------------------------------------------------- */

/* Skips the word and the blank behind it. */
static bool skip(char **line, const char *word)
{
    size_t length = strlen(word);
    if (strncmp(*line, word, length) != 0 || (*line)[length] != ' ') return false;
    *line += length + 1;
    return true;
}

/* Splits "NAME T_NS" at its last blank. */
static bool read_name_and_time(char *text, double *at_s)
{
    char *blank = strrchr(text, ' '), *rest;
    if (!blank || blank == text || blank - text >= NAME_BYTES || !isdigit((unsigned char)blank[1]))
        return false;
    errno = 0;
    unsigned long long ns = strtoull(blank + 1, &rest, 10);
    *blank = '\0';
    *at_s = 1e-9 * (double)ns;
    return *rest == '\0' && errno == 0;
}

static bool is_name(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)text[i]) && !strchr("_-.", text[i])) return false;
    return length > 0 && length < NAME_BYTES;
}

/* False: the line is not understood. */
static bool take(struct kw__marks *marks, char *line, pid_t pid, double arrived_s)
{
    void (*act)(struct kw__marks *, pid_t, const char *, double) = NULL;
    double at_s;
    if (skip(&line, "all")) pid = OF_THE_RUN;
    if (skip(&line, "set")) {
        size_t length = strcspn(line, " ");
        if (!is_name(line, length) || line[length] != ' ') return false;
        line[length] = '\0';
        set(marks, line, line + length + 1);
        return true;
    }
    bool begins = skip(&line, "begin");
    if (!begins) act = skip(&line, "end") ? end : skip(&line, "mark") ? mark : NULL;
    if ((!begins && !act) || !read_name_and_time(line, &at_s)) return false;
    if (at_s > marks->end_s) {
        marks->faults.after++;
        return true;
    }
    if (at_s < marks->begin_s || at_s > arrived_s + future_s) {
        marks->faults.wrong_time++;
        at_s = fmin(arrived_s, marks->end_s);
    }
    if (begins && pid == OF_THE_RUN) abandon_same(marks, line, at_s);
    if (begins)
        begin(marks, pid, line, at_s, false);
    else
        act(marks, pid, line, at_s);
    return true;
}

void kw__marks_take(struct kw__marks *marks, const char *line, size_t length, pid_t pid, double arrived_s)
{
    char text[KW__MARK_BYTES + 1];
    bool good = length > 0 && length <= KW__MARK_BYTES;
    for (size_t i = 0; good && i < length; i++) good = (unsigned char)line[i] >= 0x20 && line[i] != 0x7F;
    if (good) {
        memcpy(text, line, length);
        text[length] = '\0';
        good = take(marks, text, pid, arrived_s);
    }
    marks->faults.garbage += !good;
}

/* ---- Results ---------------------------------------------------------------------------------------- */

const struct kw__mark_faults *kw__marks_faults(const struct kw__marks *marks)
{
    return &marks->faults;
}

bool kw__marks_unclosed(const struct kw__marks *marks, size_t window)
{
    for (size_t i = 0; i < marks->num_unclosed; i++)
        if (marks->unclosed[i] == window) return true;
    return false;
}

const struct kw__mark_setting *kw__marks_settings(const struct kw__marks *marks, size_t *count)
{
    *count = marks->num_settings;
    return marks->settings;
}
