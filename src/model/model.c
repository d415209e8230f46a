/* Opening models, resolving requests, lowering. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "model/catalog.h"
#include "model/family.h"

static const struct kw__family *const families[] = {&kw__animatediff_family, &kw__cogvideox_family,
                                                    &kw__hunyuan_family,     &kw__ltx_family,
                                                    &kw__mochi_family,       &kw__wan_family};
enum { NUM_FAMILIES = sizeof families / sizeof families[0] };

/* ---- Opening ------------------------------------------------------------------------------------ */

/* A file that the folder lacks: it is the folder that is broken, what the caller named is there. */
static kw_status load_json(const char *path, json_t **root, kw_error *err)
{
    kw_status status = kw__json_load(path, root, err);
    if (status != KW_ERROR_NOT_FOUND) return status;
    return kw__fail(err, KW_ERROR_FORMAT, "cannot read %s: the model's folder lacks it", path);
}

static kw_status check_class(struct kw__json in, const char *wanted, kw_error *err)
{
    const char *class = NULL;
    kw_status status = kw__json_string(in, "_class_name", &class, err);
    if (!status && strcmp(class, wanted) != 0)
        return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: \"_class_name\" is \"%s\"; %s is known", in.path,
                        class, wanted);
    return status;
}

kw_status kw__component_load(kw_model *model, const char *component, const char *file, const char *class_name,
                             json_t **root, struct kw__json *in, kw_error *err)
{
    const char *path = kw__arena_printf(&model->arena, "%s/%s/%s", model->folder, component, file);
    if (!path) return kw__fail_memory(err);
    kw_status status = load_json(path, root, err);
    if (status) return status;
    *in = (struct kw__json){path, *root};
    if (class_name) status = check_class(*in, class_name, err);
    if (status) json_decref(*root);
    return status;
}

static kw_status fail_pipeline(const char *path, const char *class, kw_error *err)
{
    char known[256] = "";
    for (int i = 0; i < NUM_FAMILIES; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "",
                 families[i]->pipeline);
    return kw__fail(err, KW_ERROR_UNSUPPORTED, "%s: pipeline \"%s\" is not known; those known are %s", path,
                    class, known);
}

static kw_status find_family(kw_model *model, kw_error *err)
{
    const char *path = kw__arena_printf(&model->arena, "%s/model_index.json", model->folder);
    if (!path) return kw__fail_memory(err);
    json_t *root;
    kw_status status = load_json(path, &root, err);
    if (status) return status;
    const char *class = NULL;
    status = kw__json_string((struct kw__json){path, root}, "_class_name", &class, err);
    for (int i = 0; !status && i < NUM_FAMILIES; i++)
        if (strcmp(class, families[i]->pipeline) == 0) model->family = families[i];
    if (!status && !model->family) status = fail_pipeline(path, class, err);
    const char *version = json_string_value(json_object_get(root, "_diffusers_version"));
    if (version && !(model->diffusers = kw__arena_strdup(&model->arena, version)) && !status)
        status = kw__fail_memory(err);
    if (!status) status = model->family->check_index((struct kw__json){path, root}, err);
    json_decref(root);
    return status;
}

/* defaults.json is ours and optional; in->object is NULL without it. */
static kw_status load_defaults(struct kw__arena *arena, const char *folder, struct kw__json *in,
                               json_t **root, kw_error *err)
{
    const char *path = kw__arena_printf(arena, "%s/defaults.json", folder);
    struct stat info;
    *root = NULL;
    if (!path) return kw__fail_memory(err);
    bool absent = lstat(path, &info) != 0 && errno == ENOENT; /* a broken link is no absence */
    kw_status status = absent ? KW_OK : load_json(path, root, err);
    *in = (struct kw__json){path, *root};
    return status;
}

/* Whether "hub_id" or one of "hub_aliases" is id (NULL: none is); what they hold is checked. */
static kw_status has_hub_id(struct kw__json in, const char *id, bool *has, kw_error *err)
{
    const char *own = NULL;
    const json_t *aliases = NULL;
    kw_status status = kw__json_has(in, "hub_id") ? kw__json_string(in, "hub_id", &own, err) : KW_OK;
    if (!status && kw__json_has(in, "hub_aliases")) status = kw__json_array(in, "hub_aliases", &aliases, err);
    *has = own && id && strcmp(own, id) == 0;
    for (size_t i = 0; !status && i < json_array_size(aliases); i++) {
        const char *alias = json_string_value(json_array_get(aliases, i));
        if (!alias) return kw__fail(err, KW_ERROR_FORMAT, "%s: hub_aliases must hold strings", in.path);
        *has = *has || (id && strcmp(alias, id) == 0);
    }
    return status;
}

kw_status kw__model_on_hub(const kw_catalog *catalog, const char *name, const char *hub_id,
                           struct kw__arena *arena, bool *out, kw_error *err)
{
    char *folder = NULL;
    struct kw__json in;
    json_t *root = NULL;
    *out = false;
    kw_status status = kw__catalog_path(catalog, KW_MODELS, name, &folder, err);
    if (!status) status = load_defaults(arena, folder, &in, &root, err);
    if (root) status = has_hub_id(in, hub_id, out, err);
    json_decref(root);
    free(folder);
    return status;
}

/* What the file leaves out holds as the family has it. */
static kw_status read_defaults(kw_model *model, bool *present, kw_error *err)
{
    struct kw__json in;
    json_t *root;
    bool unused;
    model->defaults = model->family->defaults;
    kw_status status = load_defaults(&model->arena, model->folder, &in, &root, err);
    *present = root != NULL;
    if (!root) return status;
    status = has_hub_id(in, NULL, &unused, err);
    struct kw__defaults *d = &model->defaults;
    const struct {
        const char *key;
        int64_t *value, most;
    } ints[] = {{"width", &d->width, 1 << 14},
                {"height", &d->height, 1 << 14},
                {"num_frames", &d->num_frames, 1 << 16},
                {"num_inference_steps", &d->num_inference_steps, 1 << 14}};
    for (size_t i = 0; !status && i < sizeof ints / sizeof ints[0]; i++)
        if (kw__json_has(in, ints[i].key))
            status = kw__json_int(in, ints[i].key, 1, ints[i].most, ints[i].value, err);
    if (!status && kw__json_has(in, "guidance_scale"))
        status = kw__json_number(in, "guidance_scale", 0, 1e3, &d->guidance_scale, err);
    if (!status && kw__json_has(in, "fps")) status = kw__json_number(in, "fps", 1e-3, 1e4, &d->fps, err);
    const struct {
        const char *key, **value;
    } texts[] = {{"hub_id", &model->hub_id}, {"note", &model->note}};
    for (size_t i = 0; !status && i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = NULL;
        if (kw__json_has(in, texts[i].key)) status = kw__json_string(in, texts[i].key, &text, err);
        if (text && !(*texts[i].value = kw__arena_strdup(&model->arena, text))) status = kw__fail_memory(err);
    }
    json_decref(root);
    return status;
}

/* A request that asks for nothing must be one that the pipeline takes. */
static kw_status check_defaults(const kw_model *model, kw_error *err)
{
    kw_request request = KW_REQUEST_INIT;
    kw_effective effective;
    kw_error problem;
    if (kw_request_resolve(model, &request, &effective, &problem) == KW_OK) return KW_OK;
    return kw__fail(err, KW_ERROR_FORMAT, "%s/defaults.json: %.300s", model->folder, problem.message);
}

static kw_status open_folder(kw_model *model, kw_error *err)
{
    bool own_defaults = false;
    kw_status status = find_family(model, err);
    if (!status) status = read_defaults(model, &own_defaults, err);
    if (!status) status = model->family->read(model, err);
    if (!status && own_defaults) status = check_defaults(model, err);
    return status;
}

kw_status kw_model_open(const kw_catalog *catalog, const char *name, kw_model **out, kw_error *err)
{
    kw__error_clear(err);
    struct stat info;
    char *path = NULL;
    if (!kw__catalog_has(catalog, KW_MODELS, name) && stat(name, &info) == 0) {
        if (!S_ISDIR(info.st_mode))
            return kw__fail(err, KW_ERROR_USAGE,
                            "%s is a file; a model is a folder with model_index.json in it", name);
        path = kw__text("%s", name);
        if (!path) return kw__fail_memory(err);
    } else {
        if (strchr(name, '/')) return kw__fail(err, KW_ERROR_NOT_FOUND, "there is no model folder %s", name);
        kw_status status = kw__catalog_path(catalog, KW_MODELS, name, &path, err);
        if (status) return status;
    }
    kw_model *model = calloc(1, sizeof *model);
    kw_status status = KW_OK;
    if (model) {
        kw__arena_init(&model->arena);
        model->name = kw__arena_strdup(&model->arena, name);
        model->folder = kw__arena_strdup(&model->arena, path);
    }
    free(path);
    if (!model || !model->name || !model->folder) status = kw__fail_memory(err);
    if (!status) status = open_folder(model, err);
    if (status) {
        kw_model_close(model);
        return status;
    }
    *out = model;
    return KW_OK;
}

void kw_model_close(kw_model *model)
{
    if (!model) return;
    kw__arena_free(&model->arena);
    free(model);
}

/* ---- Requests -------------------------------------------------------------------------------------- */

/* Upper bounds keep every count below 2^53 and say so clearly; no open model is near them. */
static kw_status pick(const char *option, int64_t asked, int64_t standard, int64_t most, int64_t *out,
                      kw_error *err)
{
    if (asked < 0 || asked > most)
        return kw__fail(err, KW_ERROR_USAGE, "%s %" PRId64 " is out of range; give 1 to %" PRId64, option,
                        asked, most);
    *out = asked ? asked : standard;
    return KW_OK;
}

static kw_status pick_tokens(const char *option, int64_t asked, int64_t standard, int64_t most, int64_t *out,
                             kw_error *err)
{
    if (asked == 0 || asked > most)
        return kw__fail(err, KW_ERROR_USAGE, "%s %" PRId64 " is out of range; give 1 to %" PRId64, option,
                        asked, most);
    *out = asked < 0 ? standard : asked;
    return KW_OK;
}

static kw_status pick_number(const char *option, double asked, double standard, double most, double *out,
                             kw_error *err)
{
    if (!(asked >= 0 && asked <= most)) /* NaN too */
        return kw__fail(err, KW_ERROR_USAGE, "%s %g is out of range; give more than 0, at most %g", option,
                        asked, most);
    *out = asked > 0 ? asked : standard;
    return KW_OK;
}

static kw_status pick_second_guidance(const kw_model *model, double asked, kw_effective *r, kw_error *err)
{
    if (!(asked <= 1e3))
        return kw__fail(err, KW_ERROR_USAGE, "guidance-scale-2 %g is out of range; give 0 to 1000", asked);
    if (asked >= 0 && !model->second_guidance)
        return kw__fail(
            err, KW_ERROR_USAGE,
            "guidance-scale-2 has no meaning for this model, which has one transformer; leave it out");
    r->guidance_scale_2 = !model->second_guidance ? (double)NAN : asked < 0 ? r->guidance_scale : asked;
    return KW_OK;
}

static bool is_of_size(const kw_effective *r, int64_t width, int64_t height)
{
    return r->width == width && r->height == height;
}

/* What to ask for, for a clip of the size that `got` was asked for: of pipelines that change sizes by a
 * factor and round, as much smaller or larger as what came out was too large or small. */
static kw_status resolve_clip(const kw_model *model, const kw_request *request, const kw_effective *got,
                              kw_effective *out, kw_error *err)
{
    kw_request other = *request;
    kw_effective r;
    int64_t width = got->requested_width, height = got->requested_height;
    other.size_of_clip = false;
    other.width = width * width / got->width;
    other.height = height * height / got->height;
    kw_status status = kw_request_resolve(model, &other, &r, err);
    if (!status && !is_of_size(&r, width, height))
        status = kw__fail(err, KW_ERROR_USAGE, "the pipeline makes no clip of %" PRId64 "x%" PRId64, width,
                          height);
    if (!status) *out = r;
    return status;
}

kw_status kw_request_resolve(const kw_model *model, const kw_request *request, kw_effective *out,
                             kw_error *err)
{
    kw__error_clear(err);
    if (request->struct_size != sizeof *request)
        return kw__fail(err, KW_ERROR_USAGE,
                        "kw_request.struct_size is not that of this library; use KW_REQUEST_INIT");
    const struct kw__defaults *d = &model->defaults;
    kw_effective r = {.text_tokens = d->text_tokens};
    kw_status status;
    (void)((status = pick("width", request->width, d->width, 1 << 14, &r.width, err)) ||
           (status = pick("height", request->height, d->height, 1 << 14, &r.height, err)) ||
           (status = pick("num-frames", request->num_frames, d->num_frames, 1 << 14, &r.num_frames, err)) ||
           (status = pick("num-inference-steps", request->num_inference_steps, d->num_inference_steps, 10000,
                          &r.num_inference_steps, err)) ||
           (status = pick("batch-size", request->batch_size, 1, 1024, &r.batch_size, err)) ||
           (status = pick_tokens("prompt-tokens", request->prompt_tokens, d->prompt_tokens, d->text_tokens,
                                 &r.prompt_tokens, err)) ||
           (status = pick_tokens("negative-tokens", request->negative_tokens, d->negative_tokens,
                                 d->text_tokens, &r.negative_tokens, err)) ||
           (status = pick_number("fps", request->fps, d->fps, 1e4, &r.fps, err)) ||
           (status = pick_number("flow-shift", request->flow_shift, 0, 1e3, &r.flow_shift, err)) ||
           (status = pick_number("power-limit", request->power_limit_w, 0, 1e5, &r.power_limit_w, err)));
    if (status) return status;
    if (!(request->guidance_scale <= 1e3))
        return kw__fail(err, KW_ERROR_USAGE, "guidance-scale %g is out of range; give 0 to 1000",
                        request->guidance_scale);
    r.guidance_scale = request->guidance_scale < 0 ? d->guidance_scale : request->guidance_scale;
    r.guidance_passes = r.guidance_scale > 1 ? 2 : 1;
    status = pick_second_guidance(model, request->guidance_scale_2, &r, err);
    if (status) return status;
    r.requested_width = r.width;
    r.requested_height = r.height;
    r.requested_frames = r.num_frames;
    status = model->family->resolve(model, &r, err);
    if (!status && request->size_of_clip && !is_of_size(&r, r.requested_width, r.requested_height))
        return resolve_clip(model, request, &r, out, err);
    if (!status) *out = r;
    return status;
}

/* ---- Lowering ---------------------------------------------------------------------------------------- */

kw_status kw__lower(const kw_model *model, const kw_effective *request, const struct kw__dtypes *dtypes,
                    struct kw__program **out, kw_error *err)
{
    struct kw__program *program = kw__program_new(request, dtypes);
    if (!program) return kw__fail_memory(err);
    program->pipeline = model->family->pipeline;
    model->family->lower(model, program);
    if (program->arena.failed) {
        kw__program_free(program);
        return kw__fail_memory(err);
    }
    *out = program;
    return KW_OK;
}

/* Parameters of what runs: the tensors that the reference program declares. A component that is none of
 * these counts for all of them alone. */
static void count_parameters(const struct kw__program *program, int64_t out[4])
{
    enum { TEXT_ENCODER, DENOISER, DECODER, ALL };
    static const struct {
        const char *name;
        int part;
    } components[] = {{"text_encoder", TEXT_ENCODER},
                      {"text_encoder_2", TEXT_ENCODER},
                      {"transformer", DENOISER},
                      {"transformer_2", DENOISER},
                      {"unet", DENOISER},
                      {"motion_adapter", DENOISER},
                      {"vae", DECODER}};
    for (size_t i = 0; i < program->num_tensors; i++) {
        const struct kw__tensor *t = &program->tensors[i];
        int64_t n = 1;
        for (int k = 0; k < t->ndim; k++) n *= t->dim[k];
        for (size_t c = 0; c < sizeof components / sizeof components[0]; c++)
            if (strcmp(t->component, components[c].name) == 0) out[components[c].part] += n;
        out[ALL] += n;
    }
}

kw_status kw_model_info_get(const kw_model *model, kw_model_info *info, kw_error *err)
{
    kw__error_clear(err);
    if (info->struct_size != sizeof *info)
        return kw__fail(err, KW_ERROR_USAGE, "kw_model_info.struct_size is not that of this library");
    kw_request request = KW_REQUEST_INIT;
    kw_effective effective;
    kw_status status = kw_request_resolve(model, &request, &effective, err);
    struct kw__program *program;
    const struct kw__dtypes dtypes = KW__ALL_F32;
    if (!status) status = kw__lower(model, &effective, &dtypes, &program, err);
    if (status) return status;
    *info =
        (kw_model_info){sizeof *info, model->name, model->family->pipeline, model->hub_id, {0}, model->note};
    count_parameters(program, info->parameters);
    kw__program_free(program);
    return KW_OK;
}
