#include "engine/kept.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/error.h"
#include "base/number.h"
#include "engine/cpu/library.h"
#include "hardware/hardware.h"
#include "report/out.h"
#include "text/tokenizer.h"

struct maker {
    struct kw__run *run;
    kw_status status;
    kw_error *err;
};

/* NULL sets nothing. */
static void set(struct maker *m, const char *name, const char *value)
{
    if (!m->status && value) m->status = kw__run_set(m->run, name, value, m->err);
}

static void set_number(struct maker *m, const char *name, double value)
{
    char text[KW__FORMAT_SIZE];
    if (isfinite(value)) set(m, name, kw__format_exact(text, value));
}

/* The window that holds the others; the meter may have others before it. */
static kw_status find_whole(kw_meter *meter, size_t from, size_t *first, kw_error *err)
{
    size_t count = kw_meter_window_count(meter);
    for (*first = from; *first < count; ++*first) {
        kw_meter_window w = {.struct_size = sizeof w};
        kw_error ignored;
        if (!kw_meter_window_get(meter, *first, &w, &ignored) && strcmp(w.name, "generate") == 0)
            return KW_OK;
    }
    return kw__fail(err, KW_ERROR_UNSUPPORTED, "the meter has no window of it");
}

static void put_request(struct kw__run *run, const kw_effective *r)
{
    run->request = (struct kw__run_request){.width = r->width,
                                            .height = r->height,
                                            .num_frames = r->num_frames,
                                            .num_frames_asked = r->requested_frames,
                                            .num_inference_steps = r->num_inference_steps,
                                            .batch_size = r->batch_size,
                                            .prompt_tokens = r->prompt_tokens,
                                            .guidance_scale = r->guidance_scale,
                                            .fps = r->fps,
                                            .flow_shift = r->flow_shift};
    if (r->guidance_passes > 1) run->request.negative_tokens = r->negative_tokens;
}

static void put_settings(struct maker *m, const struct kw__kept *kept)
{
    const struct kw__pipeline_info *info = kept->info;
    const struct kw__dtypes *d = &info->dtypes;
    const struct kw__clip *clip = kept->clip;
    char text[64];
    set(m, "prompt", kept->prompt);
    if (info->request.guidance_passes > 1) set(m, "negative_prompt", kept->negative_prompt);
    if (!isnan(info->request.guidance_scale_2))
        set_number(m, "guidance_scale_2", info->request.guidance_scale_2);
    set(m, "tokenizer", info->tokenizer);
    set(m, "backend", info->backend);
    set(m, "dtype.text_encoder", kw__dtype_name(d->text_encoder));
    set(m, "dtype.denoiser", kw__dtype_name(d->denoiser));
    set(m, "dtype.residual", kw__dtype_name(d->residual));
    set(m, "dtype.decoder", kw__dtype_name(d->vae));
    set(m, "version.kinowatt", kw_version());
    const struct kw__cpu_library library = kw__cpu_library();
    set(m, "version.onednn", library.version);
    set(m, "version.sentencepiece", kw__sentencepiece_version());
    set(m, "cpu.bf16", library.bf16 ? library.bf16 : "none");
    struct utsname system;
    if (uname(&system) == 0) set(m, "version.kernel", system.release);
    (void)snprintf(text, sizeof text, "%" PRIu64, kept->seed);
    set(m, "run.seed", text);
    set(m, "run.meter", kept->meter_name);
    set_number(m, "run.load_s", info->load_s);
    set_number(m, "run.planned_bytes", info->needed_bytes);
    set_number(m, "run.peak_anonymous_bytes", clip->peak_anonymous_bytes);
    for (int i = 0; i < clip->num_stages; i++) {
        (void)snprintf(text, sizeof text, "run.cpu_clock_mhz.%s", clip->stages[i].name);
        set_number(m, text, clip->stages[i].cpu_clock_mhz);
        (void)snprintf(text, sizeof text, "run.other_cores.%s", clip->stages[i].name);
        set_number(m, text, clip->stages[i].other_cores);
    }
}

/* The processor, since "cpu" names a profile that every machine has. */
static void put_machine(struct maker *m, const kw_catalog *catalog)
{
    kw_hardware *hardware = NULL;
    kw_error ignored;
    if (kw_hardware_open(catalog, "cpu", &hardware, &ignored)) return;
    set(m, "cpu", hardware->cpu);
    set_number(m, "cpu.cores", kw_hardware_get(hardware, "num_cores"));
    kw_hardware_close(hardware);
}

kw_status kw__kept_fill(const struct kw__kept *kept, const kw_catalog *catalog, struct kw__run *run,
                        kw_error *err)
{
    size_t first;
    struct maker m = {run, KW_OK, err};
    kw_status status = find_whole(kept->meter, kept->first_window, &first, err);
    if (!status) status = kw__run_from_meter(run, kept->meter, first, err);
    if (status) return status;
    run->windows[0].name = "total";
    run->state = "done";
    run->model = kw__arena_strdup(&run->arena, kept->model);
    run->hardware = "cpu";
    run->stack = kw__arena_strdup(&run->arena, kept->info->stack);
    run->weights = kw__arena_strdup(&run->arena, kept->info->weights);
    put_request(run, &kept->info->request);
    put_settings(&m, kept);
    put_machine(&m, catalog);
    return m.status || !run->arena.failed ? m.status : kw__fail_memory(err);
}
