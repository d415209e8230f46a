/* Config files that are missing, broken, of the wrong type, out of range or contradictory: one line that
 * names the file and the key, and the right kind of error. Each case edits a good copy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "graph/stack.h"
#include "model/family.h"
#include "predict/calibration.h"
#include "support/folder.h"

#define TRANSFORMER "transformer/config.json"
#define TEXT "text_encoder/config.json"
#define VAE "vae/config.json"
#define SCHEDULER "scheduler/scheduler_config.json"
#define INDEX "model_index.json"
#define DEFAULTS "defaults.json"

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

static void expect_one_line(const kw_error *err, kw_status status, const char *file, const char *word)
{
    assert_int_equal(err->code, status);
    if (strpbrk(err->message, "\n\r\t") || !err->message[0]) fail_msg("not one line: %s", err->message);
    if (file && !strstr(err->message, file)) fail_msg("%s is not named: %s", file, err->message);
    if (word && !strstr(err->message, word)) fail_msg("%s is not named: %s", word, err->message);
}

static void expect_model(const char *folder, kw_status wanted, const char *file, const char *word)
{
    kw_error err = {KW_OK, ""};
    kw_model *model = NULL;
    kw_status status = kw_model_open(catalog, folder, &model, &err);
    if (status != wanted)
        fail_msg("%s, %s: status %s, not %s: %s", file, word, kw_status_name(status), kw_status_name(wanted),
                 err.message);
    assert_null(model); /* nothing is handed out */
    expect_one_line(&err, wanted, file, word);
    assert_int_equal(kw_model_open(catalog, folder, &model, NULL), wanted); /* no error wanted */
}

/* ---- Keys of a model ------------------------------------------------------------------------------- */

struct key_case {
    const char *file, *key, *json; /* json NULL: the key is taken out */
    kw_status status;
};

static const struct key_case key_cases[] = {
    /* missing */
    {TRANSFORMER, "num_layers", NULL, KW_ERROR_FORMAT},
    {TRANSFORMER, "_class_name", NULL, KW_ERROR_FORMAT},
    {TRANSFORMER, "patch_size", NULL, KW_ERROR_FORMAT},
    {TEXT, "d_model", NULL, KW_ERROR_FORMAT},
    {TEXT, "model_type", NULL, KW_ERROR_FORMAT},
    {VAE, "dim_mult", NULL, KW_ERROR_FORMAT},
    {VAE, "latents_std", NULL, KW_ERROR_FORMAT},
    {SCHEDULER, "flow_shift", NULL, KW_ERROR_FORMAT},
    {INDEX, "_class_name", NULL, KW_ERROR_FORMAT},
    /* of the wrong type */
    {TRANSFORMER, "num_layers", "\"30\"", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "[30]", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "{}", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "null", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "true", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "30.5", KW_ERROR_FORMAT},
    {TRANSFORMER, "eps", "\"1e-6\"", KW_ERROR_FORMAT},
    {TRANSFORMER, "cross_attn_norm", "1", KW_ERROR_FORMAT},
    {TRANSFORMER, "qk_norm", "false", KW_ERROR_FORMAT},
    {TRANSFORMER, "patch_size", "2", KW_ERROR_FORMAT},
    {TRANSFORMER, "patch_size", "[1, 2]", KW_ERROR_FORMAT},
    {TRANSFORMER, "patch_size", "[1, 2, \"2\"]", KW_ERROR_FORMAT},
    {VAE, "dim_mult", "[1, 2, 4]", KW_ERROR_FORMAT},
    {VAE, "latents_mean", "[0]", KW_ERROR_FORMAT},
    {VAE, "latents_std.0", "\"1\"", KW_ERROR_FORMAT},
    {VAE, "temperal_downsample", "[0, 1, 1]", KW_ERROR_FORMAT},
    {VAE, "temperal_downsample", "[true]", KW_ERROR_FORMAT},
    {VAE, "temperal_downsample", "true", KW_ERROR_FORMAT},
    {INDEX, "_class_name", "7", KW_ERROR_FORMAT},
    {DEFAULTS, "width", "\"832\"", KW_ERROR_FORMAT},
    {DEFAULTS, "hub_id", "5", KW_ERROR_FORMAT},
    {DEFAULTS, "hub_aliases", "\"a/b\"", KW_ERROR_FORMAT},
    {DEFAULTS, "hub_aliases", "[\"a/b\", 5]", KW_ERROR_FORMAT},
    /* negative, zero */
    {TRANSFORMER, "num_layers", "-1", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "0", KW_ERROR_FORMAT},
    {TRANSFORMER, "ffn_dim", "-8960", KW_ERROR_FORMAT},
    {TRANSFORMER, "patch_size.1", "0", KW_ERROR_FORMAT},
    {TRANSFORMER, "eps", "-1e-6", KW_ERROR_FORMAT},
    {TEXT, "vocab_size", "-5", KW_ERROR_FORMAT},
    {VAE, "base_dim", "0", KW_ERROR_FORMAT},
    {VAE, "latents_std.3", "0", KW_ERROR_FORMAT},
    {SCHEDULER, "flow_shift", "-3", KW_ERROR_FORMAT},
    {SCHEDULER, "num_train_timesteps", "0", KW_ERROR_FORMAT},
    {DEFAULTS, "num_frames", "0", KW_ERROR_FORMAT},
    {DEFAULTS, "guidance_scale", "-1", KW_ERROR_FORMAT},
    {DEFAULTS, "fps", "0", KW_ERROR_FORMAT},
    /* huge */
    {TRANSFORMER, "num_layers", "2000000000", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "9223372036854775807", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_layers", "1e30", KW_ERROR_FORMAT},
    {TRANSFORMER, "ffn_dim", "1e300", KW_ERROR_FORMAT},
    {TRANSFORMER, "num_attention_heads", "100000", KW_ERROR_FORMAT},
    {TEXT, "num_heads", "99999999", KW_ERROR_FORMAT},
    {VAE, "z_dim", "65", KW_ERROR_FORMAT},
    {VAE, "num_res_blocks", "1000000", KW_ERROR_FORMAT},
    {DEFAULTS, "width", "1000000", KW_ERROR_FORMAT},
    {DEFAULTS, "num_inference_steps", "1e9", KW_ERROR_FORMAT},
    /* contradictory */
    {TRANSFORMER, "text_dim", "1024", KW_ERROR_FORMAT},
    {TEXT, "d_model", "1024", KW_ERROR_FORMAT},
    {TRANSFORMER, "in_channels", "8", KW_ERROR_FORMAT},
    {TRANSFORMER, "out_channels", "32", KW_ERROR_FORMAT},
    {TRANSFORMER, "attention_head_dim", "127", KW_ERROR_FORMAT},
    {TRANSFORMER, "freq_dim", "255", KW_ERROR_FORMAT},
    {TEXT, "relative_attention_max_distance", "8", KW_ERROR_FORMAT},
    {DEFAULTS, "width", "830", KW_ERROR_FORMAT},
    {DEFAULTS, "height", "7", KW_ERROR_FORMAT},
    /* of another model */
    {INDEX, "_class_name", "\"StableDiffusionPipeline\"", KW_ERROR_UNSUPPORTED},
    {INDEX, "_class_name", "\"\"", KW_ERROR_UNSUPPORTED},
    {TRANSFORMER, "_class_name", "\"CogVideoXTransformer3DModel\"", KW_ERROR_UNSUPPORTED},
    {TRANSFORMER, "image_dim", "1280", KW_ERROR_UNSUPPORTED},
    {TRANSFORMER, "added_kv_proj_dim", "5120", KW_ERROR_UNSUPPORTED},
    {TRANSFORMER, "qk_norm", "\"layer_norm\"", KW_ERROR_UNSUPPORTED},
    {TRANSFORMER, "patch_size.0", "2", KW_ERROR_UNSUPPORTED},
    {TEXT, "model_type", "\"bert\"", KW_ERROR_UNSUPPORTED},
    {TEXT, "feed_forward_proj", "\"relu\"", KW_ERROR_UNSUPPORTED},
    {VAE, "_class_name", "\"AutoencoderKL\"", KW_ERROR_UNSUPPORTED},
    {VAE, "attn_scales", "[1.0]", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "_class_name", "\"DDIMScheduler\"", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "solver_order", "3", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "use_flow_sigmas", "false", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "use_flow_sigmas", "\"yes\"", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "use_karras_sigmas", "true", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "final_sigmas_type", "\"sigma_min\"", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "thresholding", "true", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "disable_corrector", "[0]", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "lower_order_final", "false", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "use_dynamic_shifting", "true", KW_ERROR_UNSUPPORTED},
    {SCHEDULER, "shift_terminal", "0.1", KW_ERROR_UNSUPPORTED},
};

/* The key without the path to an element: what a message must name. */
static void name_of_key(const char *key, char *name, size_t size)
{
    snprintf(name, size, "%.*s", (int)strcspn(key, "."), key);
    if (strcmp(name, "_class_name") == 0) snprintf(name, size, "class_name");
}

static void keys_of_a_model(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof key_cases / sizeof key_cases[0]; i++) {
        const struct key_case *c = &key_cases[i];
        char folder[FOLDER_BYTES], name[64];
        folder_copy("data/models/wan2.1-t2v-1.3b", folder);
        folder_set(folder, c->file, c->key, c->json);
        name_of_key(c->key, name, sizeof name);
        bool class_of_index = strcmp(c->file, INDEX) == 0 && c->status == KW_ERROR_UNSUPPORTED;
        bool text_width = strcmp(c->file, TEXT) == 0 && strcmp(c->key, "d_model") == 0 && c->json;
        expect_model(folder, c->status, text_width ? TRANSFORMER : c->file,
                     class_of_index ? "pipeline" : name);
        folder_remove(folder);
    }
}

/* An integer too long for 64 bits is still told with its key. */
static void integer_beyond_64_bits(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_write(folder, DEFAULTS, "{\"width\": 99999999999999999999999999}");
    expect_model(folder, KW_ERROR_FORMAT, DEFAULTS, "\"width\" is 1e+26");
    folder_remove(folder);
}

/* Keys that nothing reads may hold anything, as tokenizers' 1e30 does. */
static void unread_keys_do_not_matter(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_model *model;
    kw_error err;
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, TRANSFORMER, "something", "[1, {\"new\": null}]");
    folder_set(folder, TRANSFORMER, "num_layers", "30.0");
    folder_write(folder, DEFAULTS,
                 "{\"model_max_length\": 1000000000000000019884624838656, \"height\": null}");
    if (kw_model_open(catalog, folder, &model, &err)) fail_msg("%s", err.message);
    kw_model_close(model);
    folder_remove(folder);
}

/* ---- Files of a model -------------------------------------------------------------------------------- */

static char *repeat(const char *text, size_t count, const char *tail)
{
    size_t length = strlen(text);
    char *out = malloc(count * length + strlen(tail) + 1);
    assert_non_null(out);
    for (size_t i = 0; i < count; i++) memcpy(out + i * length, text, length);
    memcpy(out + count * length, tail, strlen(tail) + 1);
    return out;
}

static void texts_of_a_file(void **state)
{
    (void)state;
    char *deep = repeat("[", 100000, ""), *objects = repeat("{\"a\":", 3000, "1"),
         *digits = repeat("9", 400, "}");
    char huge[512];
    snprintf(huge, sizeof huge, "{\"num_layers\": %s", digits);
    const char *const texts[] = {
        "",
        " ",
        "\n\n",
        "{",
        "}",
        "[]",
        "[1, 2]",
        "3",
        "\"text\"",
        "null",
        "true",
        "{\"a\": }",
        "{\"a\" 1}",
        "{\"a\": 1,}",
        "{'a': 1}",
        "{\"a\": 1} {\"b\": 2}",
        "{\"a\": 1, \"a\": 2}",
        "{\"num_layers\": 30, \"num_layers\": 40}",
        "\xef\xbb\xbf{}",
        "{\"\xff\xfe\": 1}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\": NaN}",
        "{\"a\": Infinity}",
        "{\"a\": 1e999}",
        "{\"a\": 0x10}",
        "{\"a\": 01}",
        "\x1f\x8b\x08",
        "# a comment\n{}",
        "<html></html>",
        "a: 1",
        huge,
        deep,
        objects,
        "{}",
    };
    static const char *const files[] = {TRANSFORMER, TEXT, VAE, SCHEDULER, INDEX};
    char folder[FOLDER_BYTES];
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        char path[1024], kept[1024];
        snprintf(path, sizeof path, "%s/%s", folder, files[f]);
        snprintf(kept, sizeof kept, "%s/kept", folder);
        assert_int_equal(rename(path, kept), 0);
        for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
            folder_write(folder, files[f], texts[i]);
            expect_model(folder, KW_ERROR_FORMAT, files[f], NULL);
        }
        assert_int_equal(rename(kept, path), 0);
    }
    free(deep);
    free(objects);
    free(digits);
    folder_remove(folder);
}

/* Every truncation of a good file is refused, but for those that lose only white space. */
static void truncated_files(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], text[4096];
    FILE *file = fopen("data/models/wan2.1-t2v-1.3b/" TRANSFORMER, "rb");
    assert_non_null(file);
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    while (length && strchr(" \n", text[length - 1])) length--;
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    for (size_t end = length - 1; end > 0; end -= end > 7 ? 7 : end) {
        text[end] = '\0';
        folder_write(folder, TRANSFORMER, text);
        expect_model(folder, KW_ERROR_FORMAT, TRANSFORMER, "line");
    }
    folder_remove(folder);
}

static void missing_and_odd_files(void **state)
{
    (void)state;
    static const char *const files[] = {TRANSFORMER, TEXT, VAE, SCHEDULER, INDEX, DEFAULTS};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        char folder[FOLDER_BYTES], path[1024];
        bool optional = strcmp(files[i], DEFAULTS) == 0;
        folder_copy("data/models/wan2.1-t2v-1.3b", folder);
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);

        assert_int_equal(remove(path), 0);
        if (!optional) expect_model(folder, KW_ERROR_FORMAT, files[i], NULL);

        assert_int_equal(mkdir(path, 0755), 0);
        expect_model(folder, KW_ERROR_FORMAT, files[i], "not a regular file");
        assert_int_equal(rmdir(path), 0);

        assert_int_equal(mkfifo(path, 0644), 0); /* must not wait for a writer */
        expect_model(folder, KW_ERROR_FORMAT, files[i], "not a regular file");
        assert_int_equal(remove(path), 0);

        assert_int_equal(symlink(path, path), 0); /* a loop */
        expect_model(folder, KW_ERROR_IO, files[i], NULL);
        assert_int_equal(remove(path), 0);

        assert_int_equal(symlink("nowhere", path), 0);
        expect_model(folder, KW_ERROR_FORMAT, files[i], NULL);
        assert_int_equal(remove(path), 0);

        assert_int_equal(symlink("/dev/zero", path), 0);
        expect_model(folder, KW_ERROR_FORMAT, files[i], "not a regular file");
        assert_int_equal(remove(path), 0);

        folder_write(folder, files[i], "{}");
        assert_int_equal(truncate(path, 17 << 20), 0); /* sparse */
        expect_model(folder, KW_ERROR_FORMAT, files[i], "larger than 16 MiB");
        folder_remove(folder);
    }
}

static void unreadable_files(void **state)
{
    (void)state;
    if (geteuid() == 0) skip(); /* root reads everything */
    char folder[FOLDER_BYTES], path[1024];
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    snprintf(path, sizeof path, "%s/%s", folder, VAE);
    assert_int_equal(chmod(path, 0), 0);
    expect_model(folder, KW_ERROR_IO, VAE, NULL);
    folder_remove(folder);
}

static void odd_model_names(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES], path[1024];
    folder_new(folder);
    expect_model(folder, KW_ERROR_FORMAT, INDEX, NULL); /* an empty folder */
    folder_write(folder, INDEX, "{}");
    snprintf(path, sizeof path, "%s/%s", folder, INDEX);
    expect_model(path, KW_ERROR_USAGE, INDEX, "a model is a folder");
    snprintf(path, sizeof path, "%s/nothing", folder);
    expect_model(path, KW_ERROR_NOT_FOUND, "nothing", NULL);
    folder_remove(folder);

    expect_model("wan2.1-t2v-1.3", KW_ERROR_NOT_FOUND, NULL, "did you mean \"wan2.1-t2v-1.3b\"");
    expect_model("wan14b", KW_ERROR_NOT_FOUND, NULL, "wan14b");
    expect_model("", KW_ERROR_NOT_FOUND, NULL, NULL);
    expect_model("a\nb", KW_ERROR_NOT_FOUND, NULL, "a?b");
    char *name = repeat("x", 9000, "");
    expect_model(name, KW_ERROR_NOT_FOUND, NULL, NULL);
    free(name);
}

/* A folder of the catalog that is broken is refused by its slug as by its path. */
static void broken_data_folder(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_error err;
    kw_catalog *broken = NULL;
    folder_new(folder);
    assert_int_equal(kw_catalog_open(folder, &broken, &err), KW_ERROR_NOT_FOUND);
    expect_one_line(&err, KW_ERROR_NOT_FOUND, folder, "models/");
    folder_write(folder, "models/readme", "");
    folder_write(folder, "stacks/odd.json", "[");
    assert_int_equal(kw_catalog_open(folder, &broken, &err), KW_OK); /* hardware/ may be absent */
    assert_int_equal(kw_catalog_count(broken, KW_HARDWARE), 0);
    struct kw__stack *stack;
    assert_int_equal(kw__stack_open(broken, "odd", &stack, &err), KW_ERROR_FORMAT);
    expect_one_line(&err, KW_ERROR_FORMAT, "stacks/odd.json", NULL);
    kw_hardware *hardware;
    assert_int_equal(kw_hardware_open(broken, "h100-sxm", &hardware, &err), KW_ERROR_NOT_FOUND);
    kw_catalog_close(broken);
    folder_remove(folder);
}

/* ---- Stacks, hardware, calibrations -------------------------------------------------------------------- */

enum data_kind { STACK, HARDWARE, CALIBRATION };

static kw_status open_data(enum data_kind kind, const char *path, kw_error *err)
{
    struct kw__stack *stack = NULL;
    struct kw__calibration *calibration = NULL;
    kw_hardware *hardware = NULL;
    kw_status status = kind == STACK      ? kw__stack_open(catalog, path, &stack, err)
                       : kind == HARDWARE ? kw_hardware_open(catalog, path, &hardware, err)
                                          : kw__calibration_open(catalog, path, &calibration, err);
    kw__stack_close(stack);
    kw__calibration_close(calibration);
    kw_hardware_close(hardware);
    return status;
}

static const char *const originals[] = {
    [STACK] = "data/stacks/diffusers-0.34.json",
    [HARDWARE] = "data/hardware/h100-sxm.json",
    [CALIBRATION] = "data/calibrations/diffusers-0.40@h200.json",
};

static const struct {
    enum data_kind kind;
    const char *key, *json, *word;
} data_cases[] = {
    {STACK, "schema", "\"kinowatt.stack/2\"", "kinowatt.stack/1"},
    {STACK, "pipelines", "[]", "\"pipelines\""},
    {STACK, "pipelines.CogVideoXPipeline", "1", "\"CogVideoXPipeline\" in \"pipelines\" must be an object"},
    {STACK, "pipelines.CogVideoXPipeline.dtypes.vae", "\"f64\"", "\"f64\" of \"vae\" is not known"},
    {STACK, "pipelines.CogVideoXPipeline.kernels", NULL, "\"kernels\""},
    {STACK, "pipelines.CogVideoXPipeline.tiled_decode", "1", "\"tiled_decode\""},
    {STACK, "name", NULL, "\"name\""},
    {STACK, "dtypes", "[]", "\"dtypes\""},
    {STACK, "dtypes.vae", "\"f31\"", "f31"},
    {STACK, "dtypes.denoiser", "\"u8\"", "u8"},
    {STACK, "tf32_conv", "1", "tf32_conv"},
    {STACK, "rewrites", "{}", "\"rewrites\""},
    {STACK, "rewrites", "[1]", "\"rewrites\""},
    {STACK, "rewrites", "[\"fuse_everything\"]", "fuse_everything"},
    {STACK, "resident_extra_bytes", "-1", "resident_extra_bytes"},
    {STACK, "kernels", "[]", "\"kernels\""},
    {STACK, "kernels.silu", "3", "silu"},
    {STACK, "kernels.sillu", "{\"list\": []}", "sillu"},
    {STACK, "kernels.silu", "{\"list\": [1]}", "silu"},
    {STACK, "kernels.silu", "{\"list\": [{\"kernel\": \"a\", \"read\": -1, \"written\": 0}]}", "\"read\""},
    {STACK, "kernels.silu", "{\"list\": [{\"kernel\": \"a\", \"read\": 1}]}", "\"written\""},
    {STACK, "kernels.silu",
     "{\"list\": [{\"kernel\": \"a\", \"read\": 1, \"written\": 0, \"per\": \"scores\"}]}", "\"per\""},
    {STACK, "kernels.silu",
     "{\"list\": [{\"kernel\": \"a\", \"read\": 1, \"written\": 0, \"per\": \"input1\"}]}", "\"per\""},
    {STACK, "kernels.rope_table",
     "{\"list\": [{\"kernel\": \"a\", \"read\": 1, \"written\": 0, \"per\": \"input1\"}]}", "\"per\""},
    {STACK, "kernels.silu", "{\"list\": [], \"tile\": [128, 128, 32]}", "\"tile\" says nothing of silu"},
    {STACK, "kernels.silu", "{\"list\": [], \"host\": 6}", "\"host\" says nothing of silu"},
    {STACK, "kernels.attention", "{\"list\": [], \"tile\": [128, 0, 32]}", "\"tile\""},
    {STACK, "kernels.layernorm", "{\"list\": [], \"frames_at_once\": 8}",
     "\"frames_at_once\" says nothing of layernorm"},
    {STACK, "kernels.groupnorm", "{\"list\": [], \"frames_at_once\": 0}", "\"frames_at_once\""},
    {STACK, "kernels.silu", "{\"list\": [{\"kernel\": \"a\", \"read\": 1, \"written\": 0, \"walks\": true}]}",
     "\"walks\" says nothing of silu"},
    {STACK, "kernels.layernorm",
     "{\"list\": [{\"kernel\": \"a\", \"read\": 1, \"written\": 0, \"walks\": 1}]}", "\"walks\""},
    {STACK, "kernels.to_host", "{\"list\": [], \"host\": -1}", "\"host\""},
    {HARDWARE, "schema", "1", "\"schema\""},
    {HARDWARE, "kind", "\"tpu\"", "\"kind\""},
    {HARDWARE, "aliases", "[1]", "\"aliases\""},
    {HARDWARE, "values", "[]", "\"values\""},
    {HARDWARE, "values.num_sms", "132", "num_sms"},
    {HARDWARE, "values.num_sms.value", "-132", "num_sms"},
    {HARDWARE, "values.num_sms.value", "0", "num_sms"},
    {HARDWARE, "values.num_sms.value", "1e25", "num_sms"},
    {HARDWARE, "values.num_sms.unit", NULL, "num_sms"},
    {HARDWARE, "values.num_sms.source", "null", "num_sms"},
    {HARDWARE, "values.num_sms.date", "2023", "num_sms"},
    {HARDWARE, "values.memory_bandwidth_bytes_per_s", NULL, "memory_bandwidth_bytes_per_s"},
    {HARDWARE, "values.idle_power_w.value", "800", "idle_power_w"},
    {CALIBRATION, "schema", "\"\"", "kinowatt.calibration/1"},
    {CALIBRATION, "date", NULL, "\"date\""},
    {CALIBRATION, "parameters", "[]", "\"parameters\""},
    {CALIBRATION, "parameters.gemm", "1", "parameters.gemm"},
    {CALIBRATION, "parameters.gemm.prior_log_sd", "-1", "parameters.gemm"},
    {CALIBRATION, "parameters.gemm.log_value", "1e9", "log_value"},
    {CALIBRATION, "rates", "3", "\"rates\""},
    {CALIBRATION, "rates.gemm/bf16.efficiency", "1.5", "rates.gemm/bf16"},
    {CALIBRATION, "rates.gemm/bf16.efficiency", "0", "efficiency"},
    {CALIBRATION, "rates.gemm/bf16.parameter", "\"nobody\"", "nobody"},
    {CALIBRATION, "memory", "null", "\"memory\""},
    {CALIBRATION, "memory.efficiency", "-0.9", "efficiency"},
    {CALIBRATION, "launch.dispatch_seconds", "-1", "dispatch_seconds"},
    {CALIBRATION, "launch", "[]", "\"launch\""},
    {CALIBRATION, "walk", "3", "\"walk\""},
    {CALIBRATION, "walk.elements_per_s", "0", "\"walk\""},
    {CALIBRATION, "walk.blocks_per_s", NULL, "blocks_per_s"},
    {CALIBRATION, "walk.idle_share", "0.9", "\"walk\""},
    {CALIBRATION, "walk.full_share", "1.2", "\"walk\""},
    {CALIBRATION, "walk.source", NULL, "\"source\""},
    {CALIBRATION, "errors", NULL, "\"errors\""},
    {CALIBRATION, "errors.model_log_sd_time", "-0.1", "model_log_sd_time"},
    {CALIBRATION, "flops.efficiency", "0", "efficiency"},
    {CALIBRATION, "flops.power_w", "-700", "power_w"},
    {CALIBRATION, "host_energy", "{\"cpu_w\": -5}", "cpu_w"},
    {CALIBRATION, "range", "{\"tokens_low\": 9, \"tokens_high\": 1, \"steps_low\": 1, \"steps_high\": 2}",
     "\"range\""},
    {CALIBRATION, "covariance", "{\"order\": [], \"matrix\": []}", "covariance"},
    {CALIBRATION, "covariance", "7", "covariance"},
    {CALIBRATION, "sessions", "{\"a\": 1}", "sessions.a"},
};

static void keys_of_data_files(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof data_cases / sizeof data_cases[0]; i++) {
        char folder[FOLDER_BYTES], path[1024], text[1 << 16];
        kw_error err = {KW_OK, ""};
        FILE *file = fopen(originals[data_cases[i].kind], "rb");
        assert_non_null(file);
        size_t length = fread(text, 1, sizeof text - 1, file);
        text[length] = '\0';
        fclose(file);
        folder_new(folder);
        folder_write(folder, "edited.json", text);
        snprintf(path, sizeof path, "%s/edited.json", folder);
        if (open_data(data_cases[i].kind, path, &err)) fail_msg("%s", err.message); /* a good copy */
        folder_set(folder, "edited.json", data_cases[i].key, data_cases[i].json);
        kw_status status = open_data(data_cases[i].kind, path, &err);
        if (status != KW_ERROR_FORMAT)
            fail_msg("%s = %s: %s", data_cases[i].key, data_cases[i].json, kw_status_name(status));
        expect_one_line(&err, KW_ERROR_FORMAT, path, data_cases[i].word);
        folder_remove(folder);
    }
}

/* A covariance must be one: numbers, symmetric, correlations within -1 and 1. */
static void covariances(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "[[1, 2], [2, 1]]", "[[1, 0.5], [-0.5, 1]]", "[[-1, 0], [0, 1]]", "[[1, \"0\"], [0, 1]]", "[[1, 0]]",
        "[[1], [1]]",       "[[1e9, 0], [0, 1]]"};
    char folder[FOLDER_BYTES], path[1024], text[256];
    kw_error err;
    folder_copy("data/calibrations", folder);
    const char *file = "diffusers-0.40@h200.json";
    snprintf(path, sizeof path, "%s/%s", folder, file);
    /* two parameters that everything uses */
    folder_set(folder, file, "parameters",
               "{\"a\": {\"prior_log_sd\": 1, \"log_value\": 0, \"source\": \"\"},"
               " \"b\": {\"prior_log_sd\": 1, \"log_value\": 0, \"source\": \"\"}}");
    folder_set(folder, file, "rates", "{}");
    folder_set(folder, file, "power", "null");
    folder_set(folder, file, "offload", "null");
    folder_set(folder, file, "memory.parameter", "\"a\"");
    folder_set(folder, file, "launch.parameter", "\"a\"");
    folder_set(folder, file, "launch.dispatch_parameter", NULL);
    folder_set(folder, file, "host.parameter", "\"b\"");
    folder_set(folder, file, "covariance", "{\"order\": [\"a\", \"b\"], \"matrix\": [[1, 0.5], [0.5, 1]]}");
    if (open_data(CALIBRATION, path, &err)) fail_msg("%s", err.message);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        snprintf(text, sizeof text, "{\"order\": [\"a\", \"b\"], \"matrix\": %s}", bad[i]);
        folder_set(folder, file, "covariance", text);
        if (open_data(CALIBRATION, path, &err) != KW_ERROR_FORMAT) fail_msg("%s is taken", bad[i]);
        expect_one_line(&err, KW_ERROR_FORMAT, path, "covariance");
    }
    folder_set(folder, file, "covariance", "{\"order\": [\"b\", \"a\"], \"matrix\": [[1, 0], [0, 1]]}");
    assert_int_equal(open_data(CALIBRATION, path, &err), KW_ERROR_FORMAT);
    folder_remove(folder);
}

/* A request that no 64-bit count could hold is refused, not wrapped. */
static void requests_too_large_to_count(void **state)
{
    (void)state;
    char folder[FOLDER_BYTES];
    kw_error err;
    kw_model *model;
    kw_effective r;
    kw_request request = KW_REQUEST_INIT;
    request.width = request.height = request.num_frames = 1 << 14;
    request.batch_size = 1024;
    folder_copy("data/models/wan2.1-t2v-1.3b", folder);
    folder_set(folder, TRANSFORMER, "patch_size", "[1, 1, 1]");
    folder_set(folder, TRANSFORMER, "ffn_dim", "1048576");
    folder_set(folder, VAE, "temperal_downsample", "[false, false, false]");
    if (kw_model_open(catalog, folder, &model, &err)) fail_msg("%s", err.message);
    assert_int_equal(kw_request_resolve(model, &request, &r, &err), KW_ERROR_USAGE);
    expect_one_line(&err, KW_ERROR_USAGE, NULL, "too large");
    request.batch_size = 1;
    request.num_frames = 81;
    assert_int_equal(kw_request_resolve(model, &request, &r, &err), KW_OK);
    assert_int_equal(r.tokens, INT64_C(81) << 22);
    kw_model_close(model);
    folder_remove(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_a_model),
        cmocka_unit_test(integer_beyond_64_bits),
        cmocka_unit_test(unread_keys_do_not_matter),
        cmocka_unit_test(texts_of_a_file),
        cmocka_unit_test(truncated_files),
        cmocka_unit_test(missing_and_odd_files),
        cmocka_unit_test(unreadable_files),
        cmocka_unit_test(odd_model_names),
        cmocka_unit_test(broken_data_folder),
        cmocka_unit_test(keys_of_data_files),
        cmocka_unit_test(covariances),
        cmocka_unit_test(requests_too_large_to_count),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
