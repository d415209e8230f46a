/* Plans: from what is asked for to points; plan.h is the manual. */
#include "sweep/plan.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/number.h"
#include "base/uuid.h"
#include "model/family.h"

enum { MOST_POINTS = 100000, MOST_AXES = 32, UNTIL_REPEATS = 20 };

/* ---- Points ---------------------------------------------------------------------------------------- */

const char *kw__sweep_value(const struct kw__sweep_plan *plan, size_t point, size_t axis)
{
    for (size_t i = plan->num_axes - 1; i > axis; i--) point /= plan->axes[i].count;
    return plan->axes[axis].values[point % plan->axes[axis].count];
}

static void set_request(kw_request *r, const char *name, const char *value)
{
    const struct {
        const char *name;
        int64_t *count;
        double *number;
    } fields[] = {{"width", &r->width, NULL},
                  {"height", &r->height, NULL},
                  {"num_frames", &r->num_frames, NULL},
                  {"steps", &r->num_inference_steps, NULL},
                  {"batch_size", &r->batch_size, NULL},
                  {"prompt_tokens", &r->prompt_tokens, NULL},
                  {"negative_tokens", &r->negative_tokens, NULL},
                  {"guidance_scale", NULL, &r->guidance_scale},
                  {"fps", NULL, &r->fps},
                  {"flow_shift", NULL, &r->flow_shift}};
    char *end;
    if (strcmp(name, "size") == 0) {
        r->width = strtoll(value, &end, 10);
        r->height = strtoll(end + 1, NULL, 10);
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(fields[i].name, name) != 0) continue;
        if (fields[i].count) *fields[i].count = strtoll(value, NULL, 10);
        if (fields[i].number) *fields[i].number = kw__number_read(value, NULL);
    }
}

kw_request kw__sweep_point_request(const struct kw__sweep_plan *plan, size_t point)
{
    kw_request request = KW_REQUEST_INIT;
    request.power_limit_w = plan->options.power_limit_w;
    for (size_t i = 0; i < plan->num_axes; i++)
        if (plan->axes[i].info) set_request(&request, plan->axes[i].name, kw__sweep_value(plan, point, i));
    return request;
}

uint64_t kw__sweep_point_seed(const struct kw__sweep_plan *plan, size_t point)
{
    for (size_t i = 0; i < plan->num_axes; i++)
        if (plan->axes[i].info && plan->axes[i].info->kind == KW__AXIS_SEED)
            return strtoull(kw__sweep_value(plan, point, i), NULL, 10);
    return 0;
}

const char *kw__sweep_point_label(const struct kw__sweep_plan *plan, size_t point, char *buffer, size_t size)
{
    size_t used = 0;
    snprintf(buffer, size, "point %zu", point);
    for (size_t i = 0; i < plan->num_axes && used < size; i++) {
        if (plan->axes[i].count < 2) continue;
        used += (size_t)snprintf(buffer + used, size - used, "%s%s=%s", used ? " " : "", plan->axes[i].name,
                                 kw__sweep_value(plan, point, i));
    }
    return buffer;
}

bool kw__sweep_has_point(const struct kw__sweep_plan *plan, size_t point)
{
    return plan->task < 0 || (int64_t)point % plan->options.tasks == plan->task;
}

/* ---- Axes ------------------------------------------------------------------------------------------ */

static const struct kw__axis *find_axis(const struct kw__sweep_plan *plan, const char *name)
{
    for (size_t i = 0; i < plan->num_axes; i++)
        if (strcmp(plan->axes[i].name, name) == 0) return &plan->axes[i];
    return NULL;
}

static bool is_name(const char *text, size_t length)
{
    static const char first[] = "abcdefghijklmnopqrstuvwxyz_";
    return length > 0 && length < 64 && strchr(first, *text) &&
           strspn(text, "abcdefghijklmnopqrstuvwxyz_0123456789") >= length;
}

/* "tile=128,256" */
static kw_status add_own(struct kw__sweep_plan *plan, const char *text, kw_error *err)
{
    const char *equals = strchr(text, '=');
    size_t length = equals ? (size_t)(equals - text) : 0;
    if (!is_name(text, length))
        return kw__fail(
            err, KW_ERROR_USAGE,
            "--axis '%.80s' is not valid; give NAME=VALUE,VALUE with a name of small letters, digits "
            "and _",
            text);
    struct kw__axis *axis = &plan->axes[plan->num_axes];
    axis->name = kw__arena_printf(&plan->arena, "%.*s", (int)length, text);
    if (!axis->name) return kw__fail_memory(err);
    if (strcmp(axis->name, "name") == 0 || find_axis(plan, axis->name))
        return kw__fail(err, KW_ERROR_USAGE, "--axis %s: there is a {%s} already; choose another name",
                        axis->name, axis->name);
    for (size_t i = 0; i < KW__NUM_AXES; i++)
        if (strcmp(axis->name, kw__axes[i].name) == 0)
            return kw__fail(err, KW_ERROR_USAGE, "--axis %s: give it as --%s", axis->name,
                            kw__axes[i].option);
    plan->num_axes++;
    return kw__axis_parse(&plan->arena, "axis", KW__AXIS_TEXT, equals + 1, axis, err);
}

static kw_status read_axes(struct kw__sweep_plan *plan, const struct kw__sweep_options *options,
                           kw_error *err)
{
    kw_status status = KW_OK;
    if (options->num_own > MOST_AXES - KW__NUM_AXES)
        return kw__fail(err, KW_ERROR_USAGE, "there are more than %d axes; give fewer", MOST_AXES);
    plan->axes = kw__arena_alloc(&plan->arena, MOST_AXES, sizeof *plan->axes);
    if (!plan->axes) return kw__fail_memory(err);
    for (size_t i = 0; !status && i < KW__NUM_AXES; i++) {
        if (!options->values[i]) continue;
        struct kw__axis *axis = &plan->axes[plan->num_axes++];
        *axis = (struct kw__axis){.name = kw__axes[i].name, .info = &kw__axes[i]};
        status =
            kw__axis_parse(&plan->arena, kw__axes[i].option, kw__axes[i].kind, options->values[i], axis, err);
    }
    for (size_t i = 0; !status && i < options->num_own; i++) status = add_own(plan, options->own[i], err);
    if (!status && find_axis(plan, "size") && (find_axis(plan, "width") || find_axis(plan, "height")))
        return kw__fail(err, KW_ERROR_USAGE, "give --size, or --width and --height, not both");
    plan->num_points = 1;
    for (size_t i = 0; !status && i < plan->num_axes; i++) {
        plan->num_points *= plan->axes[i].count;
        if (plan->num_points > MOST_POINTS)
            return kw__fail(err, KW_ERROR_USAGE, "the axes make more than %d points; give fewer values",
                            MOST_POINTS);
    }
    return status;
}

/* "num_frames=17,size=832x480": what is not named has its first value. */
static kw_status read_anchor(struct kw__sweep_plan *plan, const char *text, kw_error *err)
{
    size_t chosen[MOST_AXES] = {0};
    for (const char *at = text; at && *at;) {
        size_t length = strcspn(at, ","), name = strcspn(at, "="), axis = 0, value = 0;
        while (axis < plan->num_axes &&
               (strlen(plan->axes[axis].name) != name || strncmp(plan->axes[axis].name, at, name) != 0))
            axis++;
        const char *wanted = at + name + 1;
        size_t left = name < length ? length - name - 1 : 0;
        while (axis < plan->num_axes && value < plan->axes[axis].count &&
               (strlen(plan->axes[axis].values[value]) != left ||
                strncmp(plan->axes[axis].values[value], wanted, left) != 0))
            value++;
        if (name >= length || axis == plan->num_axes || value == plan->axes[axis].count)
            return kw__fail(err, KW_ERROR_USAGE,
                            "--anchor '%.*s' is no value of an axis; give AXIS=VALUE, like num_frames=17",
                            (int)length, at);
        chosen[axis] = value;
        at += length;
        at += *at == ',';
    }
    for (size_t i = 0; i < plan->num_axes; i++) plan->anchor = plan->anchor * plan->axes[i].count + chosen[i];
    return KW_OK;
}

/* ---- Against the model -------------------------------------------------------------------------------- */

static void note(struct kw__sweep_plan *plan, const char *text)
{
    const char **notes = (const char **)plan->notes;
    if (!notes) notes = kw__arena_alloc(&plan->arena, 4, sizeof *notes);
    plan->notes = notes;
    if (notes && text) notes[plan->num_notes++] = text;
}

/* What the pipeline makes of the frames that are asked for, said once. */
static kw_status check_rounding(struct kw__sweep_plan *plan, const kw_model *model, kw_error *err)
{
    const struct kw__axis *axis = find_axis(plan, "num_frames");
    int64_t *frames = axis ? kw__arena_alloc(&plan->arena, axis->count, sizeof *frames) : NULL;
    const char *changed = NULL;
    if (!axis) return KW_OK;
    if (!frames) return kw__fail_memory(err);
    for (size_t i = 0; i < axis->count; i++) {
        kw_request request = kw__sweep_point_request(plan, 0);
        kw_effective effective;
        request.num_frames = strtoll(axis->values[i], NULL, 10);
        kw_status status = kw_request_resolve(model, &request, &effective, err);
        if (status) return status;
        frames[i] = effective.num_frames;
        for (size_t k = 0; k < i; k++)
            if (frames[k] == frames[i])
                return kw__fail(err, KW_ERROR_USAGE,
                                "--num-frames %s and %s both become %" PRId64
                                " in the pipeline; give one of them",
                                axis->values[k], axis->values[i], frames[i]);
        if (frames[i] == request.num_frames) continue;
        changed = kw__arena_printf(&plan->arena, "%s%s%s to %" PRId64, changed ? changed : "",
                                   changed ? ", " : "", axis->values[i], frames[i]);
        if (!changed) return kw__fail_memory(err);
    }
    if (changed) note(plan, kw__arena_printf(&plan->arena, "the pipeline rounds the frames: %s", changed));
    return KW_OK;
}

/* The names of the stages that the model has. */
static kw_status read_stages(struct kw__sweep_plan *plan, const kw_model *model, kw_error *err)
{
    const struct kw__dtypes dtypes = KW__ALL_F32;
    kw_request request = kw__sweep_point_request(plan, 0);
    kw_effective effective;
    struct kw__program *program = NULL;
    kw_status status = kw_request_resolve(model, &request, &effective, err);
    if (!status) status = kw__lower(model, &effective, &dtypes, &program, err);
    if (status) return status;
    const char **names = kw__arena_alloc(&plan->arena, (size_t)program->num_stages, sizeof *names);
    for (int i = 0; names && i < program->num_stages; i++)
        names[i] = kw__arena_strdup(&plan->arena, program->stages[i].name);
    plan->stages = names;
    plan->num_stages = (size_t)program->num_stages;
    kw__program_free(program);
    return names ? KW_OK : kw__fail_memory(err);
}

static kw_status check_points(struct kw__sweep_plan *plan, const kw_catalog *catalog, kw_error *err)
{
    kw_model *model;
    kw_error problem = {0};
    kw_status status = kw_model_open(catalog, plan->options.model, &model, err);
    if (status) return status;
    for (size_t i = 0; !status && i < plan->num_points; i++) {
        char label[256];
        kw_effective effective;
        kw_request request = kw__sweep_point_request(plan, i);
        status = kw_request_resolve(model, &request, &effective, &problem);
        if (!status) continue;
        if (plan->num_points == 1)
            kw__fail(err, status, "%s", problem.message);
        else
            kw__fail(err, status, "%s: %s", kw__sweep_point_label(plan, i, label, sizeof label),
                     problem.message);
    }
    if (!status) status = check_rounding(plan, model, err);
    if (!status && plan->options.command) status = read_stages(plan, model, err);
    kw_model_close(model);
    return status;
}

/* ---- The command's words ------------------------------------------------------------------------------- */

/* The value of {name}; NULL: there is none. `seed` holds the text of a seed. */
static const char *value_of(const struct kw__sweep_plan *plan, size_t point, const char *run,
                            const char *name, char seed[32])
{
    static const char *const sizes[] = {"width", "height"};
    if (strcmp(name, "name") == 0) return run;
    if (strcmp(name, "num_inference_steps") == 0) name = "steps";
    for (size_t i = 0; i < plan->num_axes; i++) {
        const char *value = kw__sweep_value(plan, point, i);
        if (strcmp(plan->axes[i].name, name) == 0) return value;
        if (strcmp(plan->axes[i].name, "size") != 0) continue;
        kw_request request = kw__sweep_point_request(plan, point);
        for (int k = 0; k < 2; k++) {
            if (strcmp(name, sizes[k]) != 0) continue;
            snprintf(seed, 32, "%" PRId64, k ? request.height : request.width);
            return seed;
        }
    }
    if (strcmp(name, "seed") != 0) return NULL;
    return "0";
}

static kw_status unknown_name(const struct kw__sweep_plan *plan, const char *name, kw_error *err)
{
    for (size_t i = 0; i < KW__NUM_AXES; i++)
        if (strcmp(kw__axes[i].name, name) == 0 || strcmp(name, "num_inference_steps") == 0)
            return kw__fail(err, KW_ERROR_USAGE, "the command has {%s}; give its values as --%s", name,
                            strcmp(name, "num_inference_steps") == 0 ? name : kw__axes[i].option);
    const char *names[MOST_AXES + 1] = {"name"};
    for (size_t i = 0; i < plan->num_axes; i++) names[i + 1] = plan->axes[i].name;
    const char *nearest = kw__nearest_name(name, names, plan->num_axes + 1);
    if (nearest)
        return kw__fail(
            err, KW_ERROR_USAGE,
            "the command has {%s}, which is no axis, did you mean {%s}? {{%s}} passes it on as {%s}", name,
            nearest, name, name);
    return kw__fail(
        err, KW_ERROR_USAGE,
        "the command has {%s}, which is no axis; give --axis %s=VALUES, or write {{%s}} to pass it on "
        "as {%s}",
        name, name, name, name);
}

/* One word with its {names} replaced, appended to *text. NULL when memory runs out or a name is unknown. */
static kw_status replace(const struct kw__sweep_plan *plan, size_t point, const char *run, const char *word,
                         struct kw__arena *arena, char **out, kw_error *err)
{
    char *text = kw__arena_strdup(arena, "");
    while (text && *word) {
        size_t plain = strcspn(word, "{");
        bool twice = word[plain] == '{' && word[plain + 1] == '{';
        const char *name = word + plain + 1 + twice;
        size_t length = word[plain] ? strcspn(name, "}") : 0;
        if (!word[plain]) {
            text = kw__arena_printf(arena, "%s%s", text, word);
            break;
        }
        if (!name[length] || !is_name(name, length) || (twice && name[length + 1] != '}')) {
            text = kw__arena_printf(arena, "%s%.*s", text, (int)plain + 1, word);
            word += plain + 1;
        } else if (twice) {
            text = kw__arena_printf(arena, "%s%.*s{%.*s}", text, (int)plain, word, (int)length, name);
            word = name + length + 2;
        } else {
            char known[64], seed[32];
            snprintf(known, sizeof known, "%.*s", (int)length, name);
            const char *value = value_of(plan, point, run, known, seed);
            if (!value) return unknown_name(plan, known, err);
            text = kw__arena_printf(arena, "%s%.*s%s", text, (int)plain, word, value);
            word = name + length + 1;
        }
    }
    *out = text;
    return text ? KW_OK : kw__fail_memory(err);
}

kw_status kw__sweep_command(const struct kw__sweep_plan *plan, size_t point, const char *run,
                            struct kw__arena *arena, char ***out, kw_error *err)
{
    size_t n = plan->options.num_words;
    char **words = kw__arena_alloc(arena, n + 1, sizeof *words);
    if (!words) return kw__fail_memory(err);
    kw_status status = KW_OK;
    for (size_t i = 0; !status && i < n; i++)
        status = replace(plan, point, run, plan->options.command[i], arena, &words[i], err);
    if (!status) *out = words;
    return status;
}

static bool mentions(const struct kw__sweep_plan *plan, const char *name)
{
    char braced[80];
    snprintf(braced, sizeof braced, "{%s}", name);
    for (size_t i = 0; i < plan->options.num_words; i++)
        if (strstr(plan->options.command[i], braced)) return true;
    return false;
}

/* An axis that the command does not see would measure the same thing several times. */
static kw_status check_command(struct kw__sweep_plan *plan, kw_error *err)
{
    struct kw__arena scratch;
    char **words;
    kw__arena_init(&scratch);
    kw_status status = kw__sweep_command(plan, 0, "run", &scratch, &words, err);
    kw__arena_free(&scratch);
    for (size_t i = 0; !status && i < plan->num_axes; i++) {
        const char *name = plan->axes[i].name;
        bool seen = mentions(plan, name) ||
                    (strcmp(name, "steps") == 0 && mentions(plan, "num_inference_steps")) ||
                    (strcmp(name, "size") == 0 && mentions(plan, "width") && mentions(plan, "height"));
        if (plan->axes[i].count > 1 && !seen)
            return kw__fail(err, KW_ERROR_USAGE, "the command does not see %s; put {%s} where it belongs",
                            name, name);
    }
    return status;
}

/* ---- Making one --------------------------------------------------------------------------------------- */

static kw_status check_settings(const struct kw__sweep_plan *plan, kw_error *err)
{
    const struct kw__sweep_options *o = &plan->options;
    if (!o->command && !o->model)
        return kw__fail(
            err, KW_ERROR_USAGE,
            "sweep needs a model, or -- and a command: kinowatt sweep wan2.1-t2v-nano --steps 2,4");
    if (o->max_repeats < o->repeats)
        return kw__fail(err, KW_ERROR_USAGE,
                        "--max-repeats %" PRId64 " is less than --repeats %" PRId64 "; give at least that",
                        o->max_repeats, o->repeats);
    if (o->max_repeats > MOST_POINTS)
        return kw__fail(err, KW_ERROR_USAGE, "more than %d repeats of a point are not kept; give fewer",
                        MOST_POINTS);
    if (o->until > 0 && o->max_repeats < 2)
        return kw__fail(err, KW_ERROR_USAGE,
                        "--until needs at least two runs of a point; give --max-repeats");
    if (o->tasks > (int64_t)plan->num_points)
        return kw__fail(err, KW_ERROR_USAGE,
                        "--tasks %" PRId64 " is more than there are points: %zu; give at "
                        "most that",
                        o->tasks, plan->num_points);
    if (o->name && (strlen(o->name) > 100 || strpbrk(o->name, "/%\n") || *o->name == '.' || *o->name == '-'))
        return kw__fail(err, KW_ERROR_USAGE,
                        "--name '%.110s' is not valid; give at most 100 characters, without / and %%, not "
                        "beginning with . or -",
                        o->name);
    static const char *const tokens[] = {"prompt_tokens", "negative_tokens", "batch_size"};
    for (size_t i = 0; !o->command && i < 3; i++)
        if (find_axis(plan, tokens[i]))
            return kw__fail(err, KW_ERROR_USAGE,
                            "our engine makes one clip from the prompt's own tokens; leave "
                            "out %s, or give it to a command",
                            tokens[i]);
    if (!o->command && (o->hardware || o->stack || o->power_limit_w > 0))
        return kw__fail(err, KW_ERROR_USAGE,
                        "our engine runs on this machine; leave out --hardware, --stack and "
                        "--power-limit, or give a command");
    for (size_t i = 0; !o->command && i < plan->num_axes; i++)
        if (!plan->axes[i].info)
            return kw__fail(err, KW_ERROR_USAGE, "--axis %s needs a command with {%s} in it",
                            plan->axes[i].name, plan->axes[i].name);
    return KW_OK;
}

/* Copies every text into the plan's arena. */
static void take_options(struct kw__sweep_plan *plan, const struct kw__sweep_options *from)
{
    struct kw__sweep_options *o = &plan->options;
    *o = *from;
    const char **texts[] = {&o->name,        &o->model,   &o->hardware,        &o->stack,
                            &o->calibration, &o->prompt,  &o->negative_prompt, &o->device,
                            &o->dtype,       &o->weights, &o->meter,           &o->window};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (*texts[i]) *texts[i] = kw__arena_strdup(&plan->arena, *texts[i]);
    memset(o->values, 0, sizeof o->values);
    o->own = NULL;
    o->num_own = 0;
    o->anchor = NULL;
    if (o->max_repeats == 0)
        o->max_repeats = o->until > 0 && o->repeats < UNTIL_REPEATS ? UNTIL_REPEATS : o->repeats;
    if (!from->command) return;
    const char **words = kw__arena_alloc(&plan->arena, o->num_words + 1, sizeof *words);
    for (size_t i = 0; words && i < o->num_words; i++)
        words[i] = kw__arena_strdup(&plan->arena, from->command[i]);
    o->command = words;
}

static uint32_t hash(const char *text)
{
    uint32_t value = 2166136261u; /* FNV-1a */
    for (; *text; text++) value = (value ^ (unsigned char)*text) * 16777619u;
    return value;
}

/* "wan2.1-t2v-nano-5f0c3a91": of what is run, and of all that is asked for. */
static kw_status make_name(struct kw__sweep_plan *plan, kw_error *err)
{
    const char *what = plan->options.command ? plan->options.command[0] : plan->options.model;
    char clean[41], *text = NULL;
    while (*what == '.' || *what == '/' || *what == '-') what++;
    const char *slash = strrchr(what, '/');
    if (slash && slash[1]) what = slash + 1;
    snprintf(clean, sizeof clean, "%s", what);
    for (char *at = clean; *at; at++)
        if (*at == '/' || *at == ' ' || *at == '{' || *at == '}') *at = '-';
    kw_status status = kw__sweep_plan_to_json(plan, &text, err);
    if (status) return status;
    plan->options.name =
        kw__arena_printf(&plan->arena, "%s-%08" PRIx32, *clean ? clean : "sweep", hash(text));
    free(text);
    return plan->options.name ? KW_OK : kw__fail_memory(err);
}

kw_status kw__sweep_plan_new(const kw_catalog *catalog, const struct kw__sweep_options *options,
                             struct kw__sweep_plan **out, kw_error *err)
{
    char uuid[37], folder[PATH_MAX];
    struct kw__sweep_plan *plan = calloc(1, sizeof *plan);
    if (!plan) return kw__fail_memory(err);
    kw__arena_init(&plan->arena);
    plan->task = -1;
    plan->folder = kw__arena_strdup(&plan->arena, getcwd(folder, sizeof folder) ? folder : "/");
    take_options(plan, options);
    kw_status status = read_axes(plan, options, err);
    if (!status) status = check_settings(plan, err);
    if (!status) status = read_anchor(plan, options->anchor, err);
    if (!status && plan->options.command) status = check_command(plan, err);
    if (!status && plan->options.model) status = check_points(plan, catalog, err);
    if (!status && !options->name) status = make_name(plan, err); /* before anything random is in it */
    if (!status && (!kw__uuid(uuid) || !kw__random_bytes(&plan->order_seed, sizeof plan->order_seed)))
        status = kw__fail(err, KW_ERROR_IO, "the system gives no random bytes");
    if (!status) plan->uuid = kw__arena_strdup(&plan->arena, uuid);
    plan->order_seed >>= 11; /* a JSON number that every reader holds exactly */
    if (!status && plan->arena.failed) status = kw__fail_memory(err);
    if (status)
        kw__sweep_plan_free(plan);
    else
        *out = plan;
    return status;
}

void kw__sweep_plan_free(struct kw__sweep_plan *plan)
{
    if (!plan) return;
    kw__arena_free(&plan->arena);
    free(plan);
}
