/* Nothing is allocated while a stage is timed, once a run has been made: counted where the linker leads each
 * call of malloc and its kin in our own code (Makefile), on the cpu backend and all its threads. oneDNN's
 * own calls do not pass there; what it keeps is in the heap's size, which may not grow from run to run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <malloc.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/pipeline.h"

static atomic_long calls;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **out, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **out, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
    calls++;
    return __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    calls++;
    return __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    calls++;
    return __real_realloc(old, size);
}

int __wrap_posix_memalign(void **out, size_t alignment, size_t size)
{
    calls++;
    return __real_posix_memalign(out, alignment, size);
}

/* From the first operator of a stage to its last. */
struct watch {
    char stage[32];
    long first, inside, operators;
};

static bool on_progress(void *user, const struct kw__progress *at)
{
    struct watch *w = user;
    if (strcmp(at->stage, "weights") == 0) return true;
    if (strcmp(w->stage, at->stage) != 0) {
        (void)strncpy(w->stage, at->stage, sizeof w->stage - 1);
        w->first = calls;
    }
    w->inside += calls - w->first;
    w->first = calls;
    w->operators++;
    return true;
}

static size_t heap_bytes(void)
{
#if defined __GLIBC__ && !defined __SANITIZE_ADDRESS__ && !defined __SANITIZE_THREAD__
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
#else
    return 0;
#endif
}

static void check_stack(const kw_catalog *catalog, const kw_model *model, const char *stack)
{
    struct watch w = {0};
    const struct kw__pipeline_options options = {
        .stack = stack, .prompt = "a cat", .user = &w, .progress = on_progress};
    kw_request request = KW_REQUEST_INIT;
    struct kw__pipeline *pipeline;
    kw_error err;
    request.width = 32;
    request.height = 16;
    request.num_frames = 9;
    request.num_inference_steps = 3;
    kw_status status = kw__pipeline_open(catalog, model, &request, &options, &pipeline, &err);
    if (status == KW_ERROR_UNSUPPORTED) return; /* no bf16 on this CPU */
    if (status || kw__pipeline_load(pipeline, &err)) fail_msg("%s", err.message);
    size_t before = 0, least_growth = SIZE_MAX;
    for (int run = 0; run < 4; run++) {
        struct kw__clip clip;
        w = (struct watch){0};
        if (kw__pipeline_run(pipeline, 0, &clip, &err)) fail_msg("%s", err.message);
        kw__clip_free(&clip);
        assert_true(w.operators > 100);
        if (run) assert_int_equal(w.inside, 0);
        size_t after = heap_bytes(), growth = after > before ? after - before : 0;
        if (run && growth < least_growth) least_growth = growth;
        before = after;
    }
    assert_int_equal(least_growth, 0);
    kw__pipeline_close(pipeline);
}

static void test_a_stage_allocates_nothing(void **state)
{
    (void)state;
    kw_catalog *catalog;
    kw_model *model;
    kw_error err;
    if (kw_catalog_open("data", &catalog, &err)) fail_msg("%s", err.message);
    if (kw_model_open(catalog, "tests/golden/wan-tiny", &model, &err)) fail_msg("%s", err.message);
    long opened = calls;
    assert_true(opened > 0); /* the linker leads them here */
    check_stack(catalog, model, "kinowatt-cpu-f32");
    check_stack(catalog, model, "kinowatt-cpu");
    kw_model_close(model);
    kw_catalog_close(catalog);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_stage_allocates_nothing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
