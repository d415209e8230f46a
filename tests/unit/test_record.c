/* Recording as a library: what a command's end, its output and its marks become. The command, with its
 * terminal and signals: tests/e2e/record*.sh. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "record/record.h"

enum { MOST = 4 };

struct bench {
    kw_meter *meter;
    struct kw__descriptors descriptors;
    struct kw__record_stage stages[MOST];
    size_t num_stages;
    struct kw__record *record;
};

static void open_bench(struct bench *b)
{
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    *b = (struct bench){0};
    kw__descriptors_note(&b->descriptors);
    options.sources = "replay";
    options.trace = "tests/data/meter/gpu_and_cpu.csv";
    assert_int_equal(kw_meter_open(&options, &b->meter, NULL), KW_OK);
}

static void add_stage(struct bench *b, const char *name, const char *expression)
{
    struct kw__record_stage *stage = &b->stages[b->num_stages++];
    stage->name = name;
    stage->expression = expression;
    assert_int_equal(regcomp(&stage->line, expression, REG_EXTENDED | REG_NEWLINE), 0);
}

/* Runs a script, with our stdout and stderr, which are a log, out of its way. */
static kw_status run(struct bench *b, const char *script, kw_error *err)
{
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    const struct kw__record_options options = {.argv = argv,
                                               .meter = b->meter,
                                               .descriptors = &b->descriptors,
                                               .stages = b->stages,
                                               .num_stages = b->num_stages};
    fflush(stdout);
    int nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10), error = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    dup2(nowhere, STDOUT_FILENO);
    dup2(nowhere, STDERR_FILENO);
    kw__record_free(b->record);
    b->record = NULL;
    kw_status status = kw__record_run(&options, &b->record, err);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    close(out);
    close(error);
    close(nowhere);
    return status;
}

static void close_bench(struct bench *b)
{
    for (size_t i = 0; i < b->num_stages; i++) regfree(&b->stages[i].line);
    kw__record_free(b->record);
    kw_meter_close(b->meter);
}

static kw_meter_window window(struct bench *b, size_t index)
{
    kw_meter_window w = {.struct_size = sizeof w};
    kw_error err = {0};
    if (kw_meter_window_get(b->meter, index, &w, &err)) fail_msg("%s", err.message);
    return w;
}

static void test_ends(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    assert_int_equal(run(&b, "sleep 0.1; exit 7", NULL), KW_OK);
    assert_int_equal(b.record->exit_code, 7);
    assert_int_equal(b.record->signal, 0);
    assert_true(window(&b, b.record->window).duration_s >= 0.1);
    assert_int_equal(run(&b, "kill -KILL $$", NULL), KW_OK);
    assert_int_equal(b.record->exit_code, 128 + SIGKILL);
    assert_int_equal(b.record->signal, SIGKILL);
    assert_int_equal(b.record->num_left, 0);
    assert_int_equal(run(&b, "sleep 30 & exit 0", NULL), KW_OK);
    assert_int_equal(b.record->num_left, 1);
    assert_int_equal(kill((pid_t)strtol(b.record->left, NULL, 10), SIGKILL), 0);
    wait(NULL); /* it was left to us */
    close_bench(&b);
}

static void test_does_not_start(void **state)
{
    (void)state;
    struct bench b;
    kw_error err;
    open_bench(&b);
    char *argv[] = {"no-such-command", NULL}, *folder[] = {"/", NULL};
    struct kw__record_options options = {.argv = argv, .meter = b.meter, .descriptors = &b.descriptors};
    struct kw__record *record = NULL;
    assert_int_equal(kw__record_run(&options, &record, &err), KW_ERROR_NOT_FOUND);
    options.argv = folder;
    assert_int_equal(kw__record_run(&options, &record, &err), KW_ERROR_UNSUPPORTED);
    assert_null(record);
    close_bench(&b);
}

/* Signals and what is done about children are as before. */
static void test_leaves_no_trace(void **state)
{
    (void)state;
    struct bench b;
    sigset_t before, after;
    struct kw__descriptors open_before, open_after;
    open_bench(&b);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    kw__descriptors_note(&open_before);
    signal(SIGCHLD, SIG_IGN);
    add_stage(&b, "never", "nothing");
    assert_int_equal(run(&b, "true", NULL), KW_OK);
    assert_int_equal(b.record->exit_code, 0);
    assert_true(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    kw__descriptors_note(&open_after);
    for (int s = 1; s < 32; s++) assert_int_equal(sigismember(&before, s), sigismember(&after, s));
    assert_memory_equal(&open_before, &open_after, sizeof open_before);
    close_bench(&b);
}

static void test_stages_of_output(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    add_stage(&b, "load", "^Loading");
    add_stage(&b, "step", "step [0-9]+$");
    assert_int_equal(
        run(&b, "echo Loading; sleep 0.2; echo Step; echo a step 1; sleep 0.1; echo step 22; echo Loading",
            NULL),
        KW_OK);
    size_t first = b.record->window;
    assert_int_equal(kw_meter_window_count(b.meter), first + 4);
    assert_string_equal(window(&b, first + 1).name, "load");
    assert_string_equal(window(&b, first + 2).name, "step");
    assert_string_equal(window(&b, first + 3).name, "load"); /* "step 22" goes on with the step */
    assert_true(window(&b, first + 1).duration_s >= 0.19 && window(&b, first + 2).duration_s >= 0.09);
    assert_true(window(&b, first + 1).end_s == window(&b, first + 2).begin_s);
    const struct kw__mark_faults none = {0};
    assert_memory_equal(kw__marks_faults(b.record->marks), &none, sizeof none);
    close_bench(&b);
}

/* Much on both streams at once, with a change of stage on each of many lines. */
static void test_flood_of_output(void **state)
{
    (void)state;
    struct bench b;
    open_bench(&b);
    add_stage(&b, "thousand", "^[0-9]*000$");
    add_stage(&b, "beyond", "^[0-9]*001$");
    assert_int_equal(run(&b, "seq 200000 & seq -f 'other %.0f' 100000 >&2 & wait", NULL), KW_OK);
    const struct kw__mark_faults none = {0};
    assert_int_equal(kw_meter_window_count(b.meter) - b.record->window, 1 + 200 + 199);
    assert_memory_equal(kw__marks_faults(b.record->marks), &none, sizeof none);
    assert_null(b.record->lost);
    close_bench(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_does_not_start),
        cmocka_unit_test(test_leaves_no_trace),
        cmocka_unit_test(test_stages_of_output),
        cmocka_unit_test(test_flood_of_output),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
