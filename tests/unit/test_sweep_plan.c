/* Plans: axes and points by lists worked out by hand, what is refused, and that nothing is lost in JSON. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "sweep/plan.h"

enum { SIZE, WIDTH, HEIGHT, FRAMES, STEPS, GUIDANCE, FPS, SHIFT, BATCH, PROMPT, NEGATIVE, SEED };

static kw_catalog *catalog;
static const char *const echo[] = {"echo", "{num_frames}", "{steps}", "{size}"};

static int open_catalog(void **state)
{
    (void)state;
    return kw_catalog_open(NULL, &catalog, NULL) != KW_OK;
}

static int close_catalog(void **state)
{
    (void)state;
    kw_catalog_close(catalog);
    return 0;
}

static struct kw__sweep_options of_command(const char *const *words, size_t count)
{
    return (struct kw__sweep_options){.command = words, .num_words = count, .repeats = 3};
}

static struct kw__sweep_plan *make(const struct kw__sweep_options *options)
{
    struct kw__sweep_plan *plan = NULL;
    kw_error err = {0};
    if (kw__sweep_plan_new(catalog, options, &plan, &err)) fail_msg("%s", err.message);
    return plan;
}

/* Making the plan fails with this text in the message. */
static void refuse(const struct kw__sweep_options *options, const char *text)
{
    struct kw__sweep_plan *plan = NULL;
    kw_error err = {0};
    assert_int_equal(kw__sweep_plan_new(catalog, options, &plan, &err), KW_ERROR_USAGE);
    if (!strstr(err.message, text)) fail_msg("'%s' does not say '%s'", err.message, text);
}

/* ---- Axes ------------------------------------------------------------------------------------------- */

static void expect_axis(enum kw__axis_kind kind, const char *text, const char *joined)
{
    struct kw__arena arena;
    struct kw__axis axis = {0};
    kw_error err = {0};
    char all[512] = "";
    kw__arena_init(&arena);
    if (kw__axis_parse(&arena, "axis", kind, text, &axis, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < axis.count; i++)
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? " " : "", axis.values[i]);
    assert_string_equal(all, joined);
    kw__arena_free(&arena);
}

static void expect_no_axis(enum kw__axis_kind kind, const char *text)
{
    struct kw__arena arena;
    struct kw__axis axis = {0};
    kw_error err = {0};
    kw__arena_init(&arena);
    if (kw__axis_parse(&arena, "axis", kind, text, &axis, &err) != KW_ERROR_USAGE)
        fail_msg("'%s' was taken", text);
    assert_non_null(strstr(err.message, "give"));
    kw__arena_free(&arena);
}

static void test_lists(void **state)
{
    (void)state;
    expect_axis(KW__AXIS_COUNT, "17:81:16", "17 33 49 65 81");
    expect_axis(KW__AXIS_COUNT, "17:80:16", "17 33 49 65");
    expect_axis(KW__AXIS_COUNT, "4,20,50", "4 20 50");
    expect_axis(KW__AXIS_COUNT, "2,10:12:1,100", "2 10 11 12 100");
    expect_axis(KW__AXIS_COUNT, "5:5:3", "5");
    expect_axis(KW__AXIS_COUNT, "007", "7");
    expect_axis(KW__AXIS_ABOVE, "0.1:0.5:0.1", "0.1 0.2 0.3 0.4 0.5");
    expect_axis(KW__AXIS_AMOUNT, "0,1.5,5.0", "0 1.5 5");
    expect_axis(KW__AXIS_SEED, "0,18446744073709551615", "0 18446744073709551615");
    expect_axis(KW__AXIS_SIZE, "832x480,1280x720", "832x480 1280x720");
    expect_axis(KW__AXIS_TEXT, "sdpa,flash:2,a=b", "sdpa flash:2 a=b");
    expect_axis(KW__AXIS_TEXT, "128:384:128", "128 256 384");
}

static void test_lists_refused(void **state)
{
    (void)state;
    static const char *const counts[] = {"",
                                         "0",
                                         "-1",
                                         "1.5",
                                         "4,",
                                         ",4",
                                         "4,,5",
                                         "4 ",
                                         "17:81",
                                         "17:81:0",
                                         "81:17:16",
                                         "1:2:3:4",
                                         "17:x:1",
                                         "4,4",
                                         "1:3:1,2",
                                         "1:1000000:1",
                                         "9223372036854775808"};
    static const char *const sizes[] = {"832", "832x", "x480", "832x480x2", "832X480", "0x480", "832:480"};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) expect_no_axis(KW__AXIS_COUNT, counts[i]);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) expect_no_axis(KW__AXIS_SIZE, sizes[i]);
    expect_no_axis(KW__AXIS_ABOVE, "0");
    expect_no_axis(KW__AXIS_ABOVE, "nan");
    expect_no_axis(KW__AXIS_ABOVE, "1:inf:1");
    expect_no_axis(KW__AXIS_SEED, "18446744073709551616");
    expect_no_axis(KW__AXIS_TEXT, "a,,b");
}

/* ---- Points ------------------------------------------------------------------------------------------ */

static void test_product(void **state)
{
    (void)state;
    struct kw__sweep_options o = of_command(echo, 4);
    o.values[SIZE] = "832x480,1280x720";
    o.values[FRAMES] = "17:49:16";
    o.values[STEPS] = "4,20";
    struct kw__sweep_plan *plan = make(&o);
    char label[256];
    assert_int_equal(plan->num_points, 12);
    /* the last axis is the fastest: point 7 is 1 x 6 + 0 x 2 + 1 */
    assert_string_equal(kw__sweep_point_label(plan, 0, label, sizeof label),
                        "size=832x480 num_frames=17 steps=4");
    assert_string_equal(kw__sweep_point_label(plan, 7, label, sizeof label),
                        "size=1280x720 num_frames=17 steps=20");
    kw_request r = kw__sweep_point_request(plan, 11);
    assert_int_equal(r.width, 1280);
    assert_int_equal(r.height, 720);
    assert_int_equal(r.num_frames, 49);
    assert_int_equal(r.num_inference_steps, 20);
    assert_true(r.guidance_scale < 0 && r.fps == 0);
    assert_int_equal(plan->anchor, 0);
    kw__sweep_plan_free(plan);
    o.anchor = "num_frames=33,size=1280x720"; /* and steps=4: 1 x 6 + 1 x 2 + 0 */
    plan = make(&o);
    assert_int_equal(plan->anchor, 8);
    kw__sweep_plan_free(plan);
}

static void test_anchor_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"steps=5", "steps", "step=4", "steps=", "=4", "steps=4,size=1x1"};
    struct kw__sweep_options o = of_command(echo, 3);
    o.values[FRAMES] = "17,33";
    o.values[STEPS] = "4,20";
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        o.anchor = bad[i];
        refuse(&o, "--anchor");
    }
}

static void test_shares(void **state)
{
    (void)state;
    struct kw__sweep_options o = of_command(echo, 3);
    o.values[FRAMES] = "1:10:1";
    o.values[STEPS] = "4";
    o.tasks = 3;
    struct kw__sweep_plan *plan = make(&o);
    size_t owners[10] = {0}, of_task[3] = {0};
    for (plan->task = 0; plan->task < 3; plan->task++)
        for (size_t p = 0; p < 10; p++)
            if (kw__sweep_has_point(plan, p)) owners[p]++, of_task[plan->task]++;
    for (size_t p = 0; p < 10; p++) assert_int_equal(owners[p], 1);
    for (int t = 0; t < 3; t++) assert_in_range(of_task[t], 3, 4);
    kw__sweep_plan_free(plan);
    o.tasks = 11;
    refuse(&o, "--tasks");
}

/* ---- Commands ----------------------------------------------------------------------------------------- */

static void expect_word(const char *word, const char *wanted)
{
    const char *const words[] = {word, "{steps} {size} {tile}"};
    static const char *const own[] = {"tile=128,256"};
    struct kw__sweep_options o = of_command(words, 2);
    o.values[SIZE] = "832x480";
    o.values[STEPS] = "4,20";
    o.own = own;
    o.num_own = 1;
    struct kw__sweep_plan *plan = make(&o);
    struct kw__arena arena;
    char **out;
    kw_error err = {0};
    kw__arena_init(&arena);
    if (kw__sweep_command(plan, 3, "s-p3-r0", &arena, &out, &err)) fail_msg("%s", err.message);
    assert_string_equal(out[0], wanted);
    assert_string_equal(out[1], "20 832x480 256");
    assert_null(out[2]);
    kw__arena_free(&arena);
    kw__sweep_plan_free(plan);
}

static void test_placeholders(void **state)
{
    (void)state;
    expect_word("plain", "plain");
    expect_word("{steps}{steps}", "2020");
    expect_word("--size={width}*{height}", "--size=832*480");
    expect_word("{num_inference_steps}", "20");
    expect_word("out/{name}.mp4", "out/s-p3-r0.mp4");
    expect_word("{seed}", "0");
    expect_word("awk '{print $1}'", "awk '{print $1}'"); /* no name: a blank is in it */
    expect_word("{{print}}", "{print}");
    expect_word("{{steps}} {tile}", "{steps} 256");
    expect_word("{", "{");
    expect_word("{}", "{}");
    expect_word("a{b", "a{b");
    expect_word("${HOME} {\"steps\": {steps}}", "${HOME} {\"steps\": 20}");
    expect_word("{{{steps}", "{{20");
}

static void test_commands_refused(void **state)
{
    (void)state;
    static const char *const typing[] = {"echo", "{num_frame}"}, *const strange[] = {"awk", "{print}"},
                             *const blind[] = {"echo", "{num_frames}"}, *const steps[] = {"echo", "{steps}"};
    static const char *const twice[] = {"num_frames=4"}, *const odd[] = {"Tile=4"},
                             *const name[] = {"name=4"};
    struct kw__sweep_options o = of_command(typing, 2);
    o.values[FRAMES] = "17,33";
    refuse(&o, "did you mean {num_frames}?");
    o = of_command(strange, 2);
    refuse(&o, "{{print}}");
    o = of_command(steps, 2);
    refuse(&o, "--num-inference-steps");
    o = of_command(blind, 2);
    o.values[FRAMES] = "17,33";
    o.values[STEPS] = "4,20";
    refuse(&o, "does not see steps");
    o = of_command(blind, 2);
    o.own = twice;
    o.num_own = 1;
    refuse(&o, "--num-frames");
    o.own = odd;
    refuse(&o, "--axis 'Tile=4'");
    o.own = name;
    refuse(&o, "another name");
    o = of_command(echo, 4);
    o.values[SIZE] = "832x480";
    o.values[WIDTH] = "832";
    refuse(&o, "not both");
}

/* ---- Against a model ----------------------------------------------------------------------------------- */

static void test_model(void **state)
{
    (void)state;
    struct kw__sweep_options o = {.model = "wan2.1-t2v-nano", .repeats = 1};
    o.values[FRAMES] = "16,17"; /* 4n + 1: both are 17 */
    refuse(&o, "both become 17");
    o.values[FRAMES] = "16,33";
    struct kw__sweep_plan *plan = make(&o);
    assert_int_equal(plan->num_notes, 1);
    assert_string_equal(plan->notes[0], "the pipeline rounds the frames: 16 to 17");
    kw__sweep_plan_free(plan);
    o.values[FRAMES] = "17,33";
    plan = make(&o);
    assert_int_equal(plan->num_notes, 0);
    kw__sweep_plan_free(plan);
    o.values[SIZE] = "256x144,250x144"; /* multiples of 16 */
    refuse(&o, "size=250x144 num_frames=17: ");
    o.values[SIZE] = NULL;
    o.values[BATCH] = "2";
    refuse(&o, "batch_size");
    o = (struct kw__sweep_options){.repeats = 1};
    refuse(&o, "needs a model");
}

static void test_settings(void **state)
{
    (void)state;
    struct kw__sweep_options o = of_command(echo, 1);
    o.max_repeats = 2;
    refuse(&o, "--max-repeats");
    o.max_repeats = 0;
    o.name = "a/b";
    refuse(&o, "--name");
    o.name = NULL;
    o.until = 0.02;
    struct kw__sweep_plan *plan = make(&o);
    assert_int_equal(plan->options.max_repeats, 20);
    kw__sweep_plan_free(plan);
    o.until = 0;
    plan = make(&o);
    assert_int_equal(plan->options.max_repeats, 3);
    kw__sweep_plan_free(plan);
}

/* ---- Names and JSON -------------------------------------------------------------------------------------
 */

static void test_json(void **state)
{
    (void)state;
    static const char *const own[] = {"tile=128,256"}, *const words[] = {"./run \"x\"", "{steps}\n{tile}"};
    struct kw__sweep_options o = of_command(words, 2);
    o.values[STEPS] = "4,20";
    o.own = own;
    o.num_own = 1;
    o.until = 0.015;
    o.idle_s = 2.5;
    o.warmup = 2;
    o.prompt = "";
    o.hardware = "h200";
    o.anchor = "tile=256";
    struct kw__sweep_plan *plan = make(&o), *again = NULL;
    char *text, *second;
    kw_error err = {0};
    assert_int_equal(kw__sweep_plan_to_json(plan, &text, &err), KW_OK);
    if (kw__sweep_plan_from_json(text, &again, &err)) fail_msg("%s", err.message);
    assert_true(kw__sweep_plan_same(plan, again));
    assert_int_equal(again->num_points, 4);
    assert_int_equal(again->anchor, 1);
    assert_string_equal(again->uuid, plan->uuid);
    assert_true(again->order_seed == plan->order_seed);
    assert_string_equal(again->options.command[1], "{steps}\n{tile}");
    assert_string_equal(again->options.prompt, "");
    assert_null(again->options.model);
    assert_true(again->options.until == 0.015 && again->options.idle_s == 2.5);
    assert_string_equal(kw__sweep_value(again, 2, 0), "20");
    assert_int_equal(kw__sweep_plan_to_json(again, &second, &err), KW_OK);
    assert_string_equal(text, second);
    free(text);
    free(second);
    kw__sweep_plan_free(again);
    kw__sweep_plan_free(plan);
}

static void test_names(void **state)
{
    (void)state;
    struct kw__sweep_options o = of_command(echo, 3);
    o.values[FRAMES] = "17,33";
    o.values[STEPS] = "4";
    struct kw__sweep_plan *a = make(&o), *b = make(&o);
    assert_string_equal(a->options.name, b->options.name);
    assert_true(strncmp(a->options.name, "echo-", 5) == 0);
    assert_string_not_equal(a->uuid, b->uuid);
    assert_true(kw__sweep_plan_same(a, b));
    kw__sweep_plan_free(b);
    o.values[FRAMES] = "17,49";
    b = make(&o);
    assert_string_not_equal(a->options.name, b->options.name);
    assert_false(kw__sweep_plan_same(a, b));
    kw__sweep_plan_free(b);
    kw__sweep_plan_free(a);
}

static void test_json_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "[]",
        "{",
        "{}",
        "{\"schema\":\"kinowatt.sweep/2\"}",
        "{\"schema\":\"kinowatt.sweep/1\",\"uuid\":\"u\",\"name\":\"n\",\"order_seed\":1,\"task\":0,\"asked\":{}}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct kw__sweep_plan *plan = NULL;
        kw_error err = {0};
        assert_int_not_equal(kw__sweep_plan_from_json(bad[i], &plan, &err), KW_OK);
        assert_true(*err.message);
        assert_null(plan);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),
        cmocka_unit_test(test_lists_refused),
        cmocka_unit_test(test_product),
        cmocka_unit_test(test_anchor_refused),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_placeholders),
        cmocka_unit_test(test_commands_refused),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_json_refused),
    };
    return cmocka_run_group_tests(tests, open_catalog, close_catalog);
}
