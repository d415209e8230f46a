/* Folders that are nearly WAN2.1: what changes the structure is refused by name, and what changes a number
 * is priced for what it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kinowatt.h"
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

/* Keys that Wan2.2's folders have and WAN2.1's have not, of which one alone is no model's, and values that
 * contradict one another. */
static void other_structures_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *key, *value;
    } cases[] = {
        {"model_index.json", "transformer_2", "[\"diffusers\", \"WanTransformer3DModel\"]"},
        {"model_index.json", "boundary_ratio", "0.875"},
        {"model_index.json", "expand_timesteps", "1"},
        {"model_index.json", "transformer", "null"},
        {"model_index.json", "vae", NULL},
        {"vae/config.json", "is_residual", "\"yes\""},
        {"vae/config.json", "decoder_base_dim", "0"},
        {"vae/config.json", "scale_factor_temporal", "8"},
        {"vae/config.json", "scale_factor_spatial", "16"},
        {"vae/config.json", "in_channels", "12"},
        {"text_encoder/config.json", "is_gated_act", "false"},
        {"text_encoder/config.json", "dense_act_fn", "\"relu\""},
        {"scheduler/scheduler_config.json", "prediction_type", "\"epsilon\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char folder[FOLDER_BYTES];
        kw_model *model = NULL;
        kw_error err;
        folder_copy("data/models/wan2.1-t2v-1.3b", folder);
        folder_set(folder, cases[i].file, cases[i].key, cases[i].value);
        if (kw_model_open(catalog, folder, &model, &err) == KW_OK) fail_msg("%s was taken", cases[i].key);
        if (!strstr(err.message, cases[i].key) || !strstr(err.message, cases[i].file))
            fail_msg("%s: %s", cases[i].key, err.message);
        folder_remove(folder);
    }
}

/* What newer diffusers writes for the same structure. */
static void the_same_structure_said_at_length_is_taken(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_model *model = NULL;
    kw_error err;
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, "model_index.json", "transformer_2", "[null, null]");
    folder_set(folder, "model_index.json", "boundary_ratio", "null");
    folder_set(folder, "model_index.json", "expand_timesteps", "false");
    folder_set(folder, "vae/config.json", "is_residual", "false");
    folder_set(folder, "vae/config.json", "decoder_base_dim", "null");
    folder_set(folder, "vae/config.json", "patch_size", "null");
    folder_set(folder, "vae/config.json", "in_channels", "3");
    folder_set(folder, "vae/config.json", "scale_factor_spatial", "8");
    folder_set(folder, "vae/config.json", "scale_factor_temporal", "4");
    if (kw_model_open(catalog, folder, &model, &err)) fail_msg("%s", err.message);
    kw_model_close(model);
    folder_remove(folder);
}

static kw_prediction *predict(const char *name, const char *heads, const char *head_dim)
{
    char folder[FOLDER_BYTES];
    kw_model *model = NULL;
    kw_prediction *p = NULL;
    kw_error err;
    folder_copy(name, folder);
    folder_set(folder, "transformer/config.json", "num_attention_heads", heads);
    folder_set(folder, "transformer/config.json", "attention_head_dim", head_dim);
    if (kw_model_open(catalog, folder, &model, &err) || kw_predict(catalog, model, NULL, NULL, &p, &err))
        fail_msg("%s", err.message);
    kw_model_close(model);
    folder_remove(folder);
    return p;
}

static bool warns(const kw_prediction *p, const char *of)
{
    for (size_t i = 0; i < p->num_warnings; i++)
        if (strstr(p->warnings[i], of)) return true;
    return false;
}

/* 6 heads of 256 are the same width and the same FLOPs as 12 of 128. No row tells how fast flash attention is
 * on them, so the rate of 128 stands in and is named. Of 24 heads of 64 a micro-benchmark tells. */
static void a_head_dim_without_a_rate_is_named(void **state)
{
    (void)state;
    kw_prediction *usual = predict("data/models/wan2.1-t2v-1.3b", "12", "128");
    kw_prediction *wide = predict("data/models/wan2.1-t2v-1.3b", "6", "256");
    kw_prediction *narrow = predict("data/models/wan2.1-t2v-1.3b", "24", "64");
    assert_false(warns(usual, "attention/bf16/hd"));
    assert_true(warns(wide, "attention/bf16/hd256; attention/bf16/hd128 stands in"));
    assert_false(warns(narrow, "attention/bf16/hd"));
    assert_true(usual->total.flop == wide->total.flop && usual->total.flop == narrow->total.flop);
    assert_true(fabs(wide->total.latency_s.value / usual->total.latency_s.value - 1) < 0.01);
    assert_true(narrow->total.latency_s.value > 1.05 * usual->total.latency_s.value);
    kw_prediction_free(usual);
    kw_prediction_free(wide);
    kw_prediction_free(narrow);
}

/* A stage is bound by the power limit only when its mean power is near it. */
static void the_regime_follows_the_power(void **state)
{
    (void)state;
    kw_prediction *p = predict("data/models/wan2.1-t2v-1.3b", "12", "128");
    for (size_t i = 0; i < p->num_stages; i++) {
        bool near = p->stages[i].power_w.value >= 0.95 * 700;
        assert_int_equal(p->stages[i].regime == KW_REGIME_POWER, near);
    }
    kw_prediction_free(p);
}

static void the_paper_is_of_one_clip_with_guidance(void **state)
{
    (void)state;
    kw_model *model = NULL;
    assert_int_equal(kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, NULL), KW_OK);
    for (int i = 0; i < 4; i++) {
        kw_request request = KW_REQUEST_INIT;
        kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
        kw_prediction *p = NULL;
        options.method = KW_METHOD_PAPER;
        if (i == 1) request.guidance_scale = 1;
        if (i == 2) request.batch_size = 2;
        if (i == 3) options.stack = "kinowatt";
        kw_status wanted = i ? KW_ERROR_UNSUPPORTED : KW_OK;
        assert_int_equal(kw_predict(catalog, model, &request, &options, &p, NULL), wanted);
        kw_prediction_free(p);
    }
    kw_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(other_structures_are_refused),
        cmocka_unit_test(the_same_structure_said_at_length_is_taken),
        cmocka_unit_test(a_head_dim_without_a_rate_is_named),
        cmocka_unit_test(the_regime_follows_the_power),
        cmocka_unit_test(the_paper_is_of_one_clip_with_guidance),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
