/* Where weights lie and what is copied: stacks that offload, and weights kept in a dtype of their own. The
 * sizes are the parameter counts of the components, which diffusers and transformers say too. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "graph/count.h"
#include "graph/placement.h"
#include "model/family.h"
#include "support/folder.h"

static const double t5 = 4762310656, transformer_2b = 1693783872, mochi_transformer = 10027677744.0;

static kw_catalog *catalog;
static char folder[FOLDER_BYTES];

/* A shipped stack with `from` replaced by `to` wherever it stands, as a file of the test's folder. */
static const char *changed(const char *name, const char *from, const char *to)
{
    static char path[FOLDER_BYTES + 16];
    char source[64];
    snprintf(source, sizeof source, "data/stacks/%s.json", name);
    snprintf(path, sizeof path, "%s/stack.json", folder);
    FILE *in = fopen(source, "r"), *out = fopen(path, "w");
    char line[1024];
    int found = 0;
    assert_true(in && out);
    while (fgets(line, sizeof line, in)) {
        char *at = strstr(line, from);
        found += at != NULL;
        if (at)
            fprintf(out, "%.*s%s%s", (int)(at - line), line, to, at + strlen(from));
        else
            fputs(line, out);
    }
    assert_true(found > 0);
    fclose(in);
    assert_int_equal(fclose(out), 0);
    return path;
}

static struct kw__program *lower(const char *slug, const struct kw__stack *stack)
{
    kw_model *model;
    struct kw__program *program;
    kw_request request = KW_REQUEST_INIT;
    kw_effective r;
    kw_error err;
    if (kw_model_open(catalog, slug, &model, &err)) fail_msg("%s", err.message);
    assert_int_equal(kw_request_resolve(model, &request, &r, &err), KW_OK);
    assert_int_equal(kw__lower(model, &r, kw__stack_dtypes(stack, model->family->pipeline), &program, &err),
                     KW_OK);
    kw_model_close(model);
    return program;
}

static const struct kw__move *find(const struct kw__move *moves, int count, const char *name, bool to_host)
{
    for (int i = 0; i < count; i++)
        if (strcmp(moves[i].component, name) == 0 && moves[i].to_host == to_host) return &moves[i];
    fail_msg("no move of %s", name);
    return NULL;
}

static void one_component_at_a_time(void **state)
{
    (void)state;
    struct kw__stack *stack;
    struct kw__placement p;
    struct kw__move moves[KW__MAX_MOVES];
    kw_error err;
    assert_int_equal(kw__stack_open(catalog, "diffusers-0.34", &stack, &err), KW_OK);
    struct kw__program *program = lower("cogvideox-2b", stack);
    assert_true(kw__placement_make(program, stack, &p));
    assert_int_equal(program->num_stages, 3);
    assert_int_equal(kw__placement_moves(&p, 0, 3, moves), 1);
    assert_float_equal(find(moves, 1, "text_encoder", false)->bytes, 2 * t5, 1);
    assert_int_equal(kw__placement_moves(&p, 1, 3, moves), 2);
    assert_float_equal(find(moves, 2, "text_encoder", true)->bytes, 2 * t5, 1);
    assert_float_equal(find(moves, 2, "transformer", false)->bytes, 2 * transformer_2b, 1);
    assert_int_equal(kw__placement_moves(&p, 2, 3, moves), 2);
    assert_float_equal(find(moves, 2, "transformer", true)->bytes, 2 * transformer_2b, 1);
    double vae = find(moves, 2, "vae", false)->bytes;
    assert_true(vae > 2 * 100e6 && vae < 2 * 215583907.0); /* its decoder */
    assert_int_equal(kw__placement_moves(&p, 3, 3, moves), 1);
    assert_float_equal(find(moves, 1, "vae", true)->bytes, vae, 0);
    assert_float_equal(kw__placement_bytes(&p, 1), 2 * transformer_2b, 1);
    kw__program_free(program);
    kw__stack_close(stack);
}

/* What is not named stays where it is. */
static void others_stay(void **state)
{
    (void)state;
    static const char *const stays[][2] = {{"wan2.1-t2v-1.3b", "diffusers-0.34"},
                                           {"cogvideox-2b", "diffusers-0.40"},
                                           {"cogvideox-2b", "kinowatt"}};
    for (size_t i = 0; i < sizeof stays / sizeof stays[0]; i++) {
        struct kw__stack *stack;
        struct kw__placement p;
        struct kw__move moves[KW__MAX_MOVES];
        kw_error err;
        assert_int_equal(kw__stack_open(catalog, stays[i][1], &stack, &err), KW_OK);
        struct kw__program *program = lower(stays[i][0], stack);
        assert_true(kw__placement_make(program, stack, &p));
        for (int s = 0; s <= 3; s++) assert_int_equal(kw__placement_moves(&p, s, 3, moves), 0);
        assert_int_equal(p.count, 3);
        assert_float_equal(kw__placement_bytes(&p, 0), kw__placement_bytes(&p, 2), 0);
        kw__program_free(program);
        kw__stack_close(stack);
    }
}

/* Mochi's lie there in f32, at twice the bytes of the bf16 that its products take. */
static void weights_have_their_own_dtype(void **state)
{
    (void)state;
    struct kw__stack *stacks[2];
    double bytes[2], peak[2];
    kw_error err;
    assert_int_equal(kw__stack_open(catalog, "diffusers-0.40", &stacks[0], &err), KW_OK);
    const char *path = changed("diffusers-0.40", "\"weights\": \"f32\"", "\"weights\": \"bf16\"");
    if (kw__stack_open(catalog, path, &stacks[1], &err)) fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++) {
        struct kw__placement p;
        struct kw__program *program = lower("mochi-1-preview", stacks[i]);
        assert_true(kw__placement_make(program, stacks[i], &p));
        bytes[i] = kw__placement_bytes(&p, 0);
        peak[i] = kw__peak_bytes(program, stacks[i]);
        kw__program_free(program);
        kw__stack_close(stacks[i]);
    }
    assert_float_equal(bytes[0], 2 * bytes[1], 0);
    assert_float_equal(peak[0] - peak[1], bytes[1], 1);
    double decoder = 362.5e6; /* ARCHITECTURES.md */
    assert_float_equal(bytes[0] / (4 * (t5 + mochi_transformer + decoder)), 1, 1e-3);
}

/* A prediction with offloading is the one without and the bytes at their rates and their power. */
static void copies_are_timed(void **state)
{
    (void)state;
    kw_model *model;
    kw_prediction *with, *without;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_error err;
    double there = 5.1e9, back = 2.3e9, share = 0.17; /* of the calibration's file */
    struct kw__stack *stack;
    struct kw__placement p;
    assert_int_equal(kw__stack_open(catalog, "diffusers-0.34", &stack, &err), KW_OK);
    struct kw__program *program = lower("cogvideox-5b", stack);
    assert_true(kw__placement_make(program, stack, &p));
    p.offload = false;
    double bytes = kw__placement_bytes(&p, 0), seconds = bytes / there + bytes / back;
    kw__program_free(program);
    kw__stack_close(stack);
    assert_int_equal(kw_model_open(catalog, "cogvideox-5b", &model, &err), KW_OK);
    options.calibration = "diffusers-0.34@h100-sxm";
    if (kw_predict(catalog, model, NULL, &options, &with, &err)) fail_msg("%s", err.message);
    options.stack = changed("diffusers-0.34", "\"offload\": true", "\"offload\": false");
    if (kw_predict(catalog, model, NULL, &options, &without, &err)) fail_msg("%s", err.message);
    double longer = with->total.latency_s.value - without->total.latency_s.value; /* the macro makes floats */
    double more = with->total.energy_j[KW_GPU].value - without->total.energy_j[KW_GPU].value;
    assert_float_equal(longer, seconds, 1e-6 * seconds);
    double joules = seconds * share * 700;
    assert_float_equal(more, joules, 1e-6 * joules);
    assert_true(with->peak_memory_bytes.value < without->peak_memory_bytes.value - 2 * t5);
    bool found = false, said = false;
    for (size_t i = 0; i < with->num_components; i++)
        if (strcmp(with->components[i].name, "offload") == 0) {
            found = true;
            assert_int_equal(with->components[i].regime, KW_REGIME_HOST);
            assert_float_equal(with->components[i].bytes, 2 * bytes, 0); /* there and back */
        }
    for (size_t i = 0; i < with->num_assumptions; i++)
        said = said || strstr(with->assumptions[i], "CPU offload");
    assert_true(found && said);
    kw_prediction_free(with);
    kw_prediction_free(without);
    /* a calibration that does not know them takes those of other bytes of the host */
    options.calibration = "kinowatt@h200";
    if (kw_predict(catalog, model, NULL, &options, &without, &err)) fail_msg("%s", err.message);
    options.stack = "diffusers-0.34";
    if (kw_predict(catalog, model, NULL, &options, &with, &err)) fail_msg("%s", err.message);
    seconds = 2 * bytes / 4e9;
    assert_float_equal(with->total.latency_s.value - without->total.latency_s.value, seconds, 1e-6 * seconds);
    kw_prediction_free(with);
    kw_prediction_free(without);
    kw_model_close(model);
}

static void bad_files(void **state)
{
    (void)state;
    static const char *const cases[][3] = {
        {"\"weights\": \"f32\"", "\"weights\": \"i8\"", "dtype \"i8\" of \"weights\" is not known"},
        {"\"offload\": true", "\"offload\": 1", "\"offload\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kw__stack *stack;
        kw_error err;
        const char *path = changed("diffusers-0.34", cases[i][0], cases[i][1]);
        assert_int_equal(kw__stack_open(catalog, path, &stack, &err), KW_ERROR_FORMAT);
        if (!strstr(err.message, cases[i][2])) fail_msg("%s: not \"%s\"", err.message, cases[i][2]);
    }
}

static int setup(void **state)
{
    (void)state;
    kw_error err;
    folder_new(folder);
    return kw_catalog_open("data", &catalog, &err);
}

static int teardown(void **state)
{
    (void)state;
    kw_catalog_close(catalog);
    folder_remove(folder);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_component_at_a_time),
        cmocka_unit_test(others_stay),
        cmocka_unit_test(weights_have_their_own_dtype),
        cmocka_unit_test(copies_are_timed),
        cmocka_unit_test(bad_files),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
