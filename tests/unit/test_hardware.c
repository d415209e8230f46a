/* Hardware profiles: each value with unit, source and date, and the order that physics and the makers'
 * tables give them; thresholds of arXiv 2509.19222; names and aliases; this machine's CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "hardware/hardware.h"
#include "support/folder.h"

static kw_catalog *catalog;

static int setup(void **state)
{
    (void)state;
    return kw_catalog_open("data", &catalog, NULL) != KW_OK;
}

static int teardown(void **state)
{
    (void)state;
    kw_catalog_close(catalog);
    return 0;
}

static kw_hardware *open_hardware(const char *name)
{
    kw_hardware *hardware;
    kw_error err;
    if (kw_hardware_open(catalog, name, &hardware, &err)) fail_msg("%s", err.message);
    return hardware;
}

/* The unit that the end of a key names. */
static const char *unit_of(const char *key)
{
    static const char *const units[][2] = {
        {"_flop_per_s", "FLOP/s"}, {"_bytes_per_s", "B/s"}, {"_bytes", "B"}, {"_hz", "Hz"}, {"_w", "W"}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        size_t length = strlen(units[i][0]);
        if (strlen(key) > length && strcmp(key + strlen(key) - length, units[i][0]) == 0) return units[i][1];
    }
    return "1";
}

static void expect_values_are_sourced(const kw_hardware *hardware)
{
    assert_true(kw_hardware_count(hardware) > 0);
    assert_null(kw_hardware_at(hardware, kw_hardware_count(hardware)));
    for (size_t i = 0; i < kw_hardware_count(hardware); i++) {
        const kw_hardware_value *v = kw_hardware_at(hardware, i);
        int year = 0, month = 0;
        if (!(v->value > 0) || isinf(v->value)) fail_msg("%s: %g", v->key, v->value);
        if (strcmp(v->unit, unit_of(v->key)) != 0) fail_msg("%s: unit %s", v->key, v->unit);
        if (strlen(v->source) < 10) fail_msg("%s: source \"%s\"", v->key, v->source);
        if (sscanf(v->date, "%4d-%2d", &year, &month) != 2 || year < 2015 || year > 2100 || month < 1 ||
            month > 12)
            fail_msg("%s: date \"%s\"", v->key, v->date);
        assert_true(kw_hardware_get(hardware, v->key) == v->value); /* no key twice */
    }
    assert_true(isnan(kw_hardware_get(hardware, "no_such_key")));
}

/* a >= b where both are known */
static void expect_order(const kw_hardware *hardware, const char *a, const char *b)
{
    double x = kw_hardware_get(hardware, a), y = kw_hardware_get(hardware, b);
    if (x < y) fail_msg("%s: %s %g is below %s %g", kw_hardware_name(hardware), a, x, b, y);
}

static void expect_range(const kw_hardware *hardware, const char *key, double low, double high)
{
    double x = kw_hardware_get(hardware, key);
    if (!(x >= low && x <= high)) fail_msg("%s: %s is %g", kw_hardware_name(hardware), key, x);
}

static void profiles(void **state)
{
    (void)state;
    static const char *const wanted[] = {"a100-sxm-40gb", "a100-sxm-80gb", "b200",    "h100-pcie",
                                         "h100-sxm",      "h200",          "l4",      "l40s",
                                         "mi300x",        "rtx-4090",      "rtx-5090"};
    size_t found = 0;
    for (size_t i = 0; i < kw_catalog_count(catalog, KW_HARDWARE); i++) {
        const char *name = kw_catalog_name(catalog, KW_HARDWARE, i);
        kw_hardware *h = open_hardware(name);
        for (size_t k = 0; k < sizeof wanted / sizeof wanted[0]; k++) found += strcmp(wanted[k], name) == 0;
        assert_string_equal(kw_hardware_name(h), name);
        assert_true(strlen(kw_hardware_title(h)) > 3);
        expect_values_are_sourced(h);
        expect_order(h, "fp8_flop_per_s", "bf16_flop_per_s");
        expect_order(h, "bf16_flop_per_s", "tf32_flop_per_s");
        expect_order(h, "fp16_flop_per_s", "tf32_flop_per_s");
        expect_order(h, "tf32_flop_per_s", "fp32_flop_per_s");
        expect_order(h, "fp32_flop_per_s", "fp64_flop_per_s");
        expect_order(h, "memory_bandwidth_bytes_per_s", "host_link_bytes_per_s");
        expect_order(h, "gpu_link_bytes_per_s", "host_link_bytes_per_s");
        expect_order(h, "memory_bytes", "l2_bytes");
        expect_range(h, "power_limit_w", 50, 2000);
        expect_range(h, "idle_power_w", 5, 0.25 * kw_hardware_get(h, "power_limit_w"));
        expect_range(h, "memory_bytes", 8e9, 1e12);
        expect_range(h, "memory_bandwidth_bytes_per_s", 1e11, 2e13);
        expect_range(h, "boost_clock_hz", 5e8, 4e9);
        expect_range(h, "num_sms", 10, 1000);
        /* a tensor core unit does 512 to 16384 dense bf16 FLOPs a clock, and no ridge is beyond 50 to 600 */
        double per_clock = kw_hardware_get(h, "bf16_flop_per_s") / kw_hardware_get(h, "num_sms") /
                           kw_hardware_get(h, "boost_clock_hz");
        if (per_clock < 400 || per_clock > 16384)
            fail_msg("%s: %g bf16 FLOP a clock and SM", name, per_clock);
        kw_thresholds t;
        assert_int_equal(kw_hardware_thresholds(h, &t, NULL), KW_OK);
        assert_true(t.ridge_flop_per_byte > 50 && t.ridge_flop_per_byte < 600);
        kw_hardware_close(h);
    }
    assert_int_equal(found, sizeof wanted / sizeof wanted[0]);
}

/* The paper, appendix B: 295 tokens for attention, 590 for the MLP on the H100 SXM. */
static void thresholds_of_the_paper(void **state)
{
    (void)state;
    kw_hardware *h = open_hardware("h100-sxm");
    kw_thresholds t;
    assert_int_equal(kw_hardware_thresholds(h, &t, NULL), KW_OK);
    assert_true(fabs(t.attention_tokens - 295) <= 1);
    assert_true(fabs(t.mlp_tokens - 590) <= 1);
    kw_hardware_close(h);
}

static void expect_same(const char *alias, const char *name)
{
    kw_hardware *h = open_hardware(alias);
    if (strcmp(kw_hardware_name(h), name) != 0)
        fail_msg("%s opens %s, not %s", alias, kw_hardware_name(h), name);
    kw_hardware_close(h);
}

static void names_and_aliases(void **state)
{
    (void)state;
    expect_same("H100", "h100-sxm");
    expect_same("H100-SXM-80GB", "h100-sxm"); /* as the published rows name it */
    expect_same("NVIDIA H100 80GB HBM3", "h100-sxm");
    expect_same("nvidia h200", "h200");
    expect_same("RTX 4090", "rtx-4090");
    expect_same("data/hardware/l4.json", "l4"); /* a path */
    /* an alias names one profile only */
    for (size_t i = 0; i < kw_catalog_count(catalog, KW_HARDWARE); i++) {
        kw_hardware *h = open_hardware(kw_catalog_name(catalog, KW_HARDWARE, i));
        for (size_t k = 0; k < h->num_aliases; k++) expect_same(h->aliases[k], h->name);
        char upper[64];
        size_t length = strlen(h->name);
        for (size_t c = 0; c <= length; c++) upper[c] = (char)toupper((unsigned char)h->name[c]);
        expect_same(upper, h->name);
        kw_hardware_close(h);
    }
}

static void unknown_names_offer_the_nearest(void **state)
{
    (void)state;
    kw_error err;
    kw_hardware *h = NULL;
    assert_int_equal(kw_hardware_open(catalog, "h100-sxn", &h, &err), KW_ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean \"h100-sxm\"?"));
    assert_int_equal(kw_hardware_open(catalog, "zzzzzzzzzzzzzzzz", &h, &err), KW_ERROR_NOT_FOUND);
    assert_null(strstr(err.message, "did you mean"));
    assert_int_equal(kw_hardware_open(catalog, "", &h, &err), KW_ERROR_NOT_FOUND);
    assert_int_equal(kw_hardware_open(catalog, "./nowhere.json", &h, &err), KW_ERROR_NOT_FOUND);
    assert_null(h);
}

static void this_machine(void **state)
{
    (void)state;
    kw_hardware *h = open_hardware("cpu");
    expect_values_are_sourced(h);
    assert_string_equal(kw_hardware_name(h), "cpu");
    expect_range(h, "num_cores", 1, 4096);
    expect_range(h, "memory_bytes", 1e8, 1e14);
    expect_range(h, "memory_bandwidth_bytes_per_s", 1e8, 2e12); /* sanitizers and neighbours slow it */
    if (!isnan(kw_hardware_get(h, "boost_clock_hz"))) {
        expect_range(h, "boost_clock_hz", 5e8, 1e10);
        /* a core does at least 4, at most 128 f32 FLOPs a clock */
        double per_clock = kw_hardware_get(h, "fp32_flop_per_s") / kw_hardware_get(h, "num_cores") /
                           kw_hardware_get(h, "boost_clock_hz");
        assert_true(per_clock >= 4 && per_clock <= 128);
        expect_order(h, "bf16_flop_per_s", "fp32_flop_per_s");
    }
    /* nothing measures its idle power: absent, not 0 */
    assert_true(isnan(kw_hardware_get(h, "idle_power_w")));
    kw_hardware_close(h);
}

/* What a profile leaves out is missed, not guessed. */
static void a_profile_without_bf16(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[1024];
    kw_error err;
    kw_thresholds t;
    folder_new(folder);
    folder_write(folder, "small.json",
                 "{\"schema\": \"kinowatt.hardware/1\", \"name\": \"small\", \"title\": \"a small one\", "
                 "\"kind\": \"gpu\", \"values\": {\"memory_bandwidth_bytes_per_s\": {\"value\": 1e11, "
                 "\"unit\": \"B/s\", \"source\": \"made up here\", \"date\": \"2026-01\"}}}");
    snprintf(path, sizeof path, "%s/small.json", folder);
    kw_hardware *h = open_hardware(path);
    assert_int_equal(kw_hardware_count(h), 1);
    assert_null(kw_hardware_at(h, 0)->note);
    assert_int_equal(kw_hardware_thresholds(h, &t, &err), KW_ERROR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "small has no bf16 rate"));
    kw_hardware_close(h);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(profiles),          cmocka_unit_test(thresholds_of_the_paper),
        cmocka_unit_test(names_and_aliases), cmocka_unit_test(unknown_names_offer_the_nearest),
        cmocka_unit_test(this_machine),      cmocka_unit_test(a_profile_without_bf16),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
