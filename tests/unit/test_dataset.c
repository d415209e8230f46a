/* Published rows: what the files hold, and what the reader refuses. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "predict/dataset.h"
#include "support/folder.h"

static kw_catalog *catalog;

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

static struct kw__dataset *open_set(const char *name)
{
    struct kw__dataset *set;
    kw_error err;
    if (kw__dataset_open(catalog, name, &set, &err) != KW_OK) fail_msg("%s", err.message);
    return set;
}

static void test_sweeps(void **state)
{
    (void)state;
    struct kw__dataset *set = open_set("delavande2025_wan_sweeps");
    int energies = 0, at_720p = 0;
    double sum = 0;
    assert_int_equal(set->num_rows, 14 + 32 + 59);
    for (size_t i = 0; i < set->num_rows; i++) {
        const struct kw__row *row = &set->rows[i];
        assert_string_equal(row->model, "wan2.1-t2v-1.3b");
        assert_true(isnan(row->guidance_scale));
        assert_int_equal(isnan(row->energy_wh[KW_GPU]), isnan(row->energy_wh[KW_RAM]));
        energies += !isnan(row->energy_wh[KW_GPU]);
        if (row->width != 1280 || row->frames != 81 || row->steps != 50) continue;
        at_720p++;
        sum += row->latency_s;
    }
    assert_int_equal(energies, 14 + 10 + 10);
    assert_int_equal(at_720p, 2);
    assert_float_equal(sum, 397.899 + 417.315, 1e-9);
    assert_string_equal(set->rows[0].sweep, "resolution");
    assert_int_equal(set->rows[0].line, 2);
    kw__dataset_close(set);
}

static void test_other_sets(void **state)
{
    (void)state;
    struct kw__dataset *models = open_set("delavande2025_models");
    assert_int_equal(models->num_rows, 7);
    assert_string_equal(models->rows[6].model, "wan2.1-t2v-14b");
    assert_float_equal(models->rows[6].energy_wh[KW_GPU], 359.688, 1e-9);
    assert_float_equal(models->rows[6].energy_sd_wh[KW_CPU], 3.96121, 1e-9);
    assert_true(models->rows[6].guidance_scale == 5);
    assert_non_null(strstr(models->rows[1].note, "bf16, CPU offload")); /* a quoted comma */
    kw__dataset_close(models);
    struct kw__dataset *served = open_set("mlenergy_v3_one_gpu");
    assert_int_equal(served->num_rows, 10);
    assert_string_equal(served->rows[3].model, "wan2.1-t2v-14b"); /* by its name on the Hub */
    assert_string_equal(served->rows[4].model, "hunyuanvideo");   /* by another name of the same weights */
    assert_string_equal(served->rows[6].model, "cogvideox-2b");
    assert_string_equal(served->rows[8].model, "zai-org/CogVideoX1.5-5B"); /* the catalog has none */
    assert_float_equal(served->rows[1].energy_wh[KW_GPU], 64671.5 / 3600, 1e-9);
    assert_true(isnan(served->rows[1].energy_wh[KW_CPU]));
    kw__dataset_close(served);
    struct kw__dataset *h200 = open_set("h200_diffusers040");
    assert_int_equal(h200->num_rows, 7);
    assert_string_equal(h200->rows[6].what, "pipeline");
    assert_float_equal(h200->rows[6].energy_wh[KW_GPU], 11.98, 1e-9);
    assert_null(h200->rows[1].note);
    kw__dataset_close(h200);
}

/* Reads text as a file of the sweeps' format. */
static kw_status read_text(const char *text, size_t size, struct kw__dataset **out, kw_error *err)
{
    char path[] = "/tmp/kinowatt-dataset-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), (ssize_t)size);
    close(fd);
    kw_status status = kw__dataset_read(catalog, "delavande2025_wan_sweeps", path, out, err);
    unlink(path);
    return status;
}

#define HEADER                                                                                               \
    "sweep,model,gpu,width,height,frames_requested,steps,latency_s,gpu_energy_wh,cpu_energy_wh,ram_energy_wh"

static void test_csv(void **state)
{
    (void)state;
    struct kw__dataset *set;
    kw_error err;
    const char *text =
        HEADER "\r\n\"a \"\"b\"\", c\",m,g,16,32,5,1,2.5e1,,1,\r\n,m,\"g\",16,32,5,1,1,.5,,2\r\n";
    if (read_text(text, strlen(text), &set, &err) != KW_OK) fail_msg("%s", err.message);
    assert_int_equal(set->num_rows, 2);
    assert_string_equal(set->rows[0].sweep, "a \"b\", c");
    assert_true(set->rows[0].latency_s == 25 && isnan(set->rows[0].energy_wh[KW_GPU]));
    assert_true(set->rows[0].energy_wh[KW_CPU] == 1 && isnan(set->rows[0].energy_wh[KW_RAM]));
    assert_null(set->rows[1].sweep);
    assert_string_equal(set->rows[1].gpu, "g");
    assert_true(set->rows[1].energy_wh[KW_RAM] == 2);
    kw__dataset_close(set);
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"", "column 1"},
        {HEADER "\n", "no rows"},
        {HEADER, ":1: the file ends within this line"},
        {HEADER "\ns,m,g,16,32,5,1,1,,,0.10", ":2: the file ends within this line"},
        {HEADER "\ns,m,g,16,32,5,1,1,,,\"0.1\"", ":2: the file ends within this line"},
        {"sweep,model\n", "column 3 must be \"gpu\""},
        {HEADER ",more\n", "12 columns instead of 11"},
        {HEADER "\ns,m,g,16,32,5,1,1,,\n", ":2: 10 fields instead of 11"},
        {HEADER "\ns,m,g,16,32,5,1,1,,,\n\n", ":3: 1 fields"},
        {HEADER "\ns,m,g,16,32,5,1,fast,,,\n", "latency_s is \"fast\""},
        {HEADER "\ns,m,g,16,32,5,1,nan,,,\n", "latency_s is \"nan\""},
        {HEADER "\ns,m,g,16,32,5,1,1e999,,,\n", "latency_s is \"1e999\""},
        {HEADER "\ns,m,g,16,32,5,1,0x10,,,\n", "latency_s"},
        {HEADER "\ns,m,g,16,32,5,1,0,,,\n", "more than 0"},
        {HEADER "\ns,m,g,16,32,5,1,1,-2,,\n", "gpu_energy_wh"},
        {HEADER "\ns,m,g,16,32,5,1,,,,\n", "latency must be there"},
        {HEADER "\ns,,g,16,32,5,1,1,,,\n", "model, gpu"},
        {HEADER "\ns,m,g,16.5,32,5,1,1,,,\n", "width is \"16.5\""},
        {HEADER "\ns,m,g,,32,5,1,1,,,\n", "width is \"\""},
        {HEADER "\ns,m,g,16,32,5,0,1,,,\n", "steps is \"0\""},
        {HEADER "\n\"s,m,g,16,32,5,1,1,,,\n", "not closed"},
        {HEADER "\ns,\"m\"x,g,16,32,5,1,1,,,\n", "follows a closing quote"},
        {HEADER "\ns,m\"x,g,16,32,5,1,1,,,\n", "within a field"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kw__dataset *set;
        kw_error err;
        assert_int_equal(read_text(cases[i].text, strlen(cases[i].text), &set, &err), KW_ERROR_FORMAT);
        if (!strstr(err.message, cases[i].says)) fail_msg("%s: not \"%s\"", err.message, cases[i].says);
    }
    struct kw__dataset *set;
    kw_error err;
    const char with_nul[] = HEADER "\ns,m\0,g,16,32,5,1,1,,,\n";
    assert_int_equal(read_text(with_nul, sizeof with_nul - 1, &set, &err), KW_ERROR_FORMAT);
    assert_int_equal(kw__dataset_read(catalog, "delavande2025_models", "/nonexistent.csv", &set, &err),
                     KW_ERROR_NOT_FOUND);
    assert_int_equal(kw__dataset_open(catalog, "delavande2025_model", &set, &err), KW_ERROR_NOT_FOUND);
    assert_non_null(strstr(err.message, "did you mean \"delavande2025_models\""));
}

static kw_status find_published(const kw_catalog *from, size_t *rows, kw_error *err)
{
    kw_request request = KW_REQUEST_INIT;
    kw_effective effective;
    kw_model *model;
    kw_published_list *list = NULL;
    kw_status status = kw_model_open(from, "wan2.1-t2v-1.3b", &model, err);
    assert_int_equal(status, KW_OK);
    assert_int_equal(kw_request_resolve(model, &request, &effective, err), KW_OK);
    status = kw_published_find(from, model, &effective, &list, err);
    if (!status) *rows = list->num_rows;
    kw_published_free(list);
    kw_model_close(model);
    return status;
}

/* A data set that is not there has no rows; another file that cannot be read is an error. */
static void test_what_is_absent(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[FOLDER_BYTES + 64];
    kw_catalog *copy;
    kw_error err = {KW_OK, ""};
    size_t all = 0, fewer = 0;
    folder_copy("data", folder);
    assert_int_equal(kw_catalog_open(folder, &copy, &err), KW_OK);
    if (find_published(copy, &all, &err)) fail_msg("%s", err.message);
    snprintf(path, sizeof path, "%s/published/delavande2025_wan_sweeps.csv", folder);
    assert_int_equal(unlink(path), 0);
    if (find_published(copy, &fewer, &err)) fail_msg("%s", err.message);
    assert_true(fewer > 0 && fewer < all);
    snprintf(path, sizeof path, "%s/models/wan2.1-t2v-14b/defaults.json", folder);
    assert_int_equal(unlink(path) || symlink("nowhere", path),
                     0); /* every model's holds its name on the Hub */
    assert_true(find_published(copy, &fewer, &err) != KW_OK);
    assert_non_null(strstr(err.message, "wan2.1-t2v-14b"));
    kw_catalog_close(copy);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sweeps),   cmocka_unit_test(test_other_sets),     cmocka_unit_test(test_csv),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_what_is_absent),
    };
    return cmocka_run_group_tests(tests, open_catalog, close_catalog);
}
