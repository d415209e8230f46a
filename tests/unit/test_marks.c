/* Marks: their energies worked out by hand on a trace, what is odd about them counted, and the calls that
 * send them. The command around it: tests/e2e/record.sh, mark.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/time.h"
#include "meter/meter.h"
#include "record/marks.h"
#include "record/socket.h"
#include "support/folder.h"

/* ---- A meter that stands still, on 10 W for a second, 20 W for the next, ... ---- */

struct bench {
    kw_meter *meter;
    struct kw__marks *marks;
    double origin_s; /* the monotonic time of the meter's 0 */
    size_t whole;
};

static void open_bench(struct bench *b, size_t max_windows)
{
    static const char trace[] = "kinowatt-trace,1\nchannel,cpu,package-0,0,,262143.32885,,\n"
                                "sample,0,0,0,,,,,\nsample,1,0,10,,,,,\nsample,2,0,30,,,,,\n"
                                "sample,3,0,60,,,,,\nsample,4,0,100,,,,,\nsample,5,0,150,,,,,\n"
                                "sample,6,0,210,,,,,\nsample,7,0,280,,,,,\n";
    char folder[FOLDER_BYTES], path[FOLDER_BYTES + 16];
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    kw_error err = {0};
    folder_new(folder);
    folder_write(folder, "trace.csv", trace);
    snprintf(path, sizeof path, "%s/trace.csv", folder);
    options.trace = path;
    options.max_windows = max_windows;
    if (kw__meter_open_still(&options, &b->meter, &err)) fail_msg("%s", err.message);
    folder_remove(folder);
    b->origin_s = -kw_meter_at_s(b->meter, 0);
    kw__meter_advance(b->meter, 0.5);
    assert_int_equal(kw_meter_open_window(b->meter, "total", -1, 0.5, &b->whole, NULL), KW_OK);
    b->marks = kw__marks_new(b->meter, b->whole, b->origin_s + 0.5);
    assert_non_null(b->marks);
}

/* A line with its moment, of a process, that arrives 10 ms later. */
static void say(struct bench *b, double at_s, int pid, const char *format, ...)
{
    char words[128], line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    snprintf(line, sizeof line, "%s %.0f", words, 1e9 * (b->origin_s + at_s));
    kw__meter_advance(b->meter, at_s + 0.01);
    kw__marks_take(b->marks, line, strlen(line), pid, b->origin_s + at_s + 0.01);
}

static void end_run(struct bench *b, double at_s)
{
    kw__meter_advance(b->meter, at_s);
    kw__marks_end(b->marks, b->origin_s + at_s);
    kw__marks_finish(b->marks);
    assert_int_equal(kw_meter_close_window(b->meter, b->whole, at_s, NULL), KW_OK);
    kw__meter_advance(b->meter, 9);
}

static void close_bench(struct bench *b)
{
    kw__marks_free(b->marks);
    kw_meter_close(b->meter);
}

/* The window that began as the nth, with its energy and what it is nested in. */
static void is_window(struct bench *b, size_t window, const char *name, double energy_j, size_t parent)
{
    kw_meter_window w = {.struct_size = sizeof w};
    kw_error err = {0};
    if (kw_meter_window_get(b->meter, window, &w, &err)) fail_msg("%zu: %s", window, err.message);
    assert_string_equal(w.name, name);
    if (fabs(w.energy_j[KW_CPU].value - energy_j) > 1e-4)
        fail_msg("%s: %g J, not %g", name, w.energy_j[KW_CPU].value, energy_j);
    if (window != b->whole) assert_int_equal(w.parent, (int)parent);
}

/* ---- What marks mean ---- */

static void test_stages_nest(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 0);
    say(&b, 1, 7, "begin load");      /* 10 J there */
    say(&b, 1.5, 7, "begin a stage"); /* 20 */
    say(&b, 2.5, 7, "end a stage");   /* 45 */
    say(&b, 3, 7, "end load");        /* 60 */
    say(&b, 3, 7, "mark denoise");    /* 60 */
    say(&b, 4, 7, "begin step");      /* 100 */
    say(&b, 4.5, 7, "end step");      /* 125 */
    say(&b, 5, 7, "mark decode");     /* 150 */
    end_run(&b, 6);                   /* 210 */
    is_window(&b, 0, "total", 205, 0);
    is_window(&b, 1, "load", 50, 0);
    is_window(&b, 2, "a stage", 25, 1);
    is_window(&b, 3, "denoise", 90, 0);
    is_window(&b, 4, "step", 25, 3);
    is_window(&b, 5, "decode", 60, 0);
    assert_int_equal(kw_meter_window_count(b.meter), 6);
    const struct kw__mark_faults none = {0};
    assert_memory_equal(kw__marks_faults(b.marks), &none, sizeof none);
    close_bench(&b);
}

/* Two processes and a script at once, none of which knows of the others. */
static void test_processes_overlap(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 0);
    say(&b, 1, 7, "begin w");
    say(&b, 1.5, 8, "begin w");
    say(&b, 1.7, 9, "all mark script");
    say(&b, 2, 8, "begin inner");
    say(&b, 3, 7, "end w");
    say(&b, 3.5, 10, "all mark next");
    say(&b, 4, 8, "end inner");
    say(&b, 5, 8, "end w");
    end_run(&b, 6);
    is_window(&b, 1, "w", 50, 0);
    is_window(&b, 2, "w", 130, 0);
    is_window(&b, 3, "script", 80 - 24, 0);
    is_window(&b, 4, "inner", 70, 2);
    is_window(&b, 5, "next", 210 - 80, 0);
    const struct kw__mark_faults none = {0};
    assert_memory_equal(kw__marks_faults(b.marks), &none, sizeof none);
    close_bench(&b);
}

static void test_odd_marks_are_counted(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 0);
    say(&b, 1, 7, "end nothing"); /* unknown */
    say(&b, 1, 7, "begin a");
    say(&b, 2, 7, "begin b");
    say(&b, 3, 7, "end a"); /* out of order; b goes on */
    say(&b, 3, 8, "end b"); /* another process's: unknown */
    say(&b, 4, 7, "end b");
    say(&b, 4, 7, "begin c");
    kw__meter_advance(b.meter, 4.5);
    kw__marks_take(b.marks, "begin d 5", 9, 7,
                   b.origin_s + 4.5); /* before the run: 4.5 s, the arrival, is taken */
    kw__meter_advance(b.meter, 5.5);
    kw__marks_end(b.marks, b.origin_s + 5);
    say(&b, 5.2, 7, "begin late"); /* after the end */
    kw__marks_finish(b.marks);
    assert_int_equal(kw_meter_close_window(b.meter, b.whole, 5, NULL), KW_OK);
    kw__meter_advance(b.meter, 9);
    is_window(&b, 1, "a", 50, 0);
    is_window(&b, 2, "b", 70, 1);
    is_window(&b, 3, "c", 50, 0);
    is_window(&b, 4, "d", 25, 3);
    const struct kw__mark_faults expected = {
        .unclosed = 2, .out_of_order = 1, .unknown = 2, .after = 1, .wrong_time = 1};
    assert_memory_equal(kw__marks_faults(b.marks), &expected, sizeof expected);
    assert_true(kw__marks_unclosed(b.marks, 3) && kw__marks_unclosed(b.marks, 4));
    assert_false(kw__marks_unclosed(b.marks, 1) || kw__marks_unclosed(b.marks, 0));
    close_bench(&b);
}

static void test_garbage(void **state)
{
    (void)state;
    static const char *const garbage[] = {
        "",
        " ",
        "begin",
        "begin ",
        "begin a",
        "begin a b",
        "begin 12",
        "begin  12",
        "begin a -1",
        "begin a 1.5",
        "begin a 99999999999999999999999",
        "BEGIN a 1",
        "start a 1",
        "end a",
        "mark 1",
        "all",
        "all all mark a 1",
        "set",
        "set a",
        "set a b=c\n",
        "set a/b c",
        "begin a\n 12",
        "\x7f",
        "begin a 12 ",
        "begin 0123456789012345678901234567890123456789012345678901234567890123 12"};
    struct bench b;
    char large[5000];
    open_bench(&b, 0);
    size_t count = sizeof garbage / sizeof *garbage;
    for (size_t i = 0; i < count; i++) {
        int64_t before = kw__marks_faults(b.marks)->garbage;
        kw__marks_take(b.marks, garbage[i], strlen(garbage[i]), 7, b.origin_s + 1);
        if (kw__marks_faults(b.marks)->garbage != before + 1) fail_msg("\"%s\" was taken", garbage[i]);
    }
    memset(large, 'x', sizeof large);
    memcpy(large, "set a ", 6);
    kw__marks_take(b.marks, large, sizeof large, 7, b.origin_s + 1);
    kw__marks_take(b.marks, "begin a\0 1", 10, 7, b.origin_s + 1);
    assert_int_equal(kw__marks_faults(b.marks)->garbage, count + 2);
    assert_int_equal(kw_meter_window_count(b.meter), 1);
    close_bench(&b);
}

/* A million begins: the first are windows, the rest are counted, and what was open before still ends. */
static void test_flood(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b, 100);
    say(&b, 1, 7, "begin outer");
    for (int i = 0; i < 1000000; i++) {
        char line[64];
        int length =
            snprintf(line, sizeof line, "%s x %.0f", i % 2 ? "end" : "begin", 1e9 * (b.origin_s + 1.5));
        kw__marks_take(b.marks, line, (size_t)length, 8, b.origin_s + 1.51);
    }
    for (int depth = 0; depth < 40; depth++) say(&b, 2, 7, "begin deep %d", depth);
    for (int depth = 39; depth >= 0; depth--) say(&b, 2.5, 7, "end deep %d", depth);
    say(&b, 3, 7, "end outer");
    for (int pid = 1000; pid < 1500; pid++) say(&b, 4, pid, "begin many");
    end_run(&b, 5);
    is_window(&b, 1, "outer", 50, 0);
    assert_int_equal(kw_meter_window_count(b.meter), 100);
    const struct kw__mark_faults *f = kw__marks_faults(b.marks);
    assert_int_equal(f->over, 500000 - 98 + 40 + 500);
    assert_int_equal(f->unknown + f->out_of_order + f->garbage + f->unclosed, 0);
    close_bench(&b);
}

static void test_settings(void **state)
{
    (void)state;
    static const char *const lines[] = {"set attention cudnn", "all set torch 2.11 + cu130",
                                        "set attention math", "set empty "};
    struct bench b;
    size_t count;
    open_bench(&b, 0);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        kw__marks_take(b.marks, lines[i], strlen(lines[i]), 7, b.origin_s + 1);
    const struct kw__mark_setting *settings = kw__marks_settings(b.marks, &count);
    assert_int_equal(count, 3);
    assert_string_equal(settings[0].name, "attention");
    assert_string_equal(settings[0].value, "math");
    assert_string_equal(settings[1].value, "2.11 + cu130");
    assert_string_equal(settings[2].value, "");
    assert_int_equal(kw__marks_faults(b.marks)->garbage, 0);
    close_bench(&b);
}

/* ---- Sending ---- */

static void took(struct kw__mark_socket *socket, const char *words)
{
    char line[2048];
    int pid;
    long length = kw__mark_socket_take(socket, line, sizeof line - 1, &pid);
    assert_true(length > 0);
    line[length] = '\0';
    assert_int_equal(pid, getpid());
    if (strncmp(line, words, strlen(words)) != 0) fail_msg("\"%s\" is not \"%s\"", line, words);
}

static void test_sending(void **state)
{
    (void)state;
    struct kw__mark_socket socket;
    struct stat folder;
    char line[64], name[5000];
    int pid;
    unsetenv("KINOWATT_SOCKET");
    kw_mark_begin("nobody listens");
    assert_int_equal(kw__mark_socket_open(&socket, NULL), KW_OK);
    assert_int_equal(stat(socket.folder, &folder), 0);
    assert_int_equal(folder.st_mode & 0777, 0700);
    setenv("KINOWATT_SOCKET", socket.path, 1);
    double before = kw__monotonic_s();
    kw_mark_begin("a stage");
    kw_mark_end("a stage");
    kw_mark_next("next");
    kw_mark_set("torch", "2.11");
    took(&socket, "begin a stage ");
    took(&socket, "end a stage ");
    took(&socket, "mark next ");
    took(&socket, "set torch 2.11");
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    kw_mark_begin(name); /* comes as one that is too long */
    assert_true(kw__mark_socket_take(&socket, line, sizeof line, &pid) > KW__MARK_BYTES);
    assert_int_equal(kw__mark_socket_take(&socket, line, sizeof line, &pid), -1);
    double each_us = (kw__monotonic_s() - before) / 5 * 1e6;
    print_message("# a mark takes %.1f us\n", each_us);
    kw__mark_socket_close(&socket);
    assert_int_equal(stat(socket.folder, &folder), -1);
    kw_mark_begin("nobody listens any more");
    setenv("KINOWATT_SOCKET",
           "/a/path/that/is/longer/than/what/the/address/of/a/socket/can/hold/which/is/one/"
           "hundred/and/seven/bytes/at/most/on/this/system",
           1);
    kw_mark_begin("nobody");
    unsetenv("KINOWATT_SOCKET");
}

static void *send_many(void *argument)
{
    for (int i = 0; i < 200; i++) {
        kw_mark_begin(argument);
        kw_mark_end(argument);
    }
    return NULL;
}

/* Four threads at once: nothing is lost while someone takes it. */
static void test_threads(void **state)
{
    (void)state;
    static char names[4][2] = {"a", "b", "c", "d"};
    struct kw__mark_socket socket;
    pthread_t threads[4];
    char line[256];
    int pid, got = 0;
    assert_int_equal(kw__mark_socket_open(&socket, NULL), KW_OK);
    setenv("KINOWATT_SOCKET", socket.path, 1);
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, send_many, names[i]);
    for (double until = kw__monotonic_s() + 20; got < 1600 && kw__monotonic_s() < until;)
        got += kw__mark_socket_take(&socket, line, sizeof line, &pid) > 0;
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(got, 1600);
    kw__mark_socket_close(&socket);
    unsetenv("KINOWATT_SOCKET");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stages_nest),
        cmocka_unit_test(test_processes_overlap),
        cmocka_unit_test(test_odd_marks_are_counted),
        cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_flood),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_sending),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
