#include "record/kept.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "hardware/hardware.h"
#include "store/fields.h"

/* A name that a run has a field for (model, num_frames, ...) fills it, if its value is of that kind; any
 * other is a setting. */
kw_status kw__kept_label(struct kw__run *run, const char *name, const char *text, kw_error *err)
{
    static const char *const fields[] = {"model",
                                         "what",
                                         "hardware",
                                         "stack",
                                         "weights",
                                         "note",
                                         "width",
                                         "height",
                                         "num_frames",
                                         "num_frames_asked",
                                         "num_inference_steps",
                                         "batch_size",
                                         "prompt_tokens",
                                         "negative_tokens",
                                         "guidance_scale",
                                         "fps",
                                         "flow_shift",
                                         "num_gpus"};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (strcmp(fields[i], name) != 0) continue;
        for (size_t f = 0; f < kw__run_fields.count; f++) {
            const struct kw__field *field = &kw__run_fields.fields[f];
            struct kw__field_value value = {.type = KW__VALUE_TEXT, .text = text};
            if (strcmp(field->name, name) != 0) continue;
            if (field->kind != KW__FIELD_TEXT) {
                if (!kw__number_parse(text, &value.real)) break;
                value.type = KW__VALUE_REAL;
                if (field->kind == KW__FIELD_COUNT) {
                    if (!(value.real >= 1 && value.real < 1e15 && value.real == floor(value.real))) break;
                    value.type = KW__VALUE_WHOLE;
                    value.whole = (int64_t)value.real;
                }
            }
            if (kw__field_set(field, run, &value, &run->arena)) return KW_OK;
        }
    }
    return kw__run_set(run, name, text, err);
}

/* The profile of the GPU that was metered, or what it calls itself. */
static void label_hardware(struct kw__run *run, const kw_catalog *catalog)
{
    const char *name = NULL;
    int64_t gpus = 0;
    for (size_t i = 0; i < run->num_channels; i++) {
        if (run->channels[i].device != KW_GPU) continue;
        if (!name) name = run->channels[i].name;
        gpus++;
    }
    if (!run->request.num_gpus) run->request.num_gpus = gpus;
    if (run->hardware || !name) return;
    run->hardware = name;
    for (size_t i = 0; i < kw_catalog_count(catalog, KW_HARDWARE); i++) {
        kw_hardware *hardware;
        const char *profile = kw_catalog_name(catalog, KW_HARDWARE, i);
        if (kw_hardware_open(catalog, profile, &hardware, NULL)) continue;
        if (kw__hardware_is(hardware, name)) run->hardware = kw__arena_strdup(&run->arena, profile);
        kw_hardware_close(hardware);
    }
}

static void note_windows(struct kw__run *run, const struct kw__record *record, kw_meter *meter)
{
    for (size_t i = 0; i < run->num_windows; i++) {
        struct kw__run_window *window = &run->windows[i];
        kw_meter_window w = {.struct_size = sizeof w};
        if (kw__marks_unclosed(record->marks, record->window + i))
            window->note = "never closed";
        else if (kw_meter_window_get(meter, record->window + i, &w, NULL) == KW_OK && w.moved_s > 1e-3)
            window->note = kw__arena_printf(&run->arena,
                                            "its mark came too late: an edge was moved by %.3g s", w.moved_s);
    }
}

kw_status kw__kept_record(const struct kw__record *record, kw_meter *meter, const kw_catalog *catalog,
                          struct kw__run *run, kw_error *err)
{
    size_t count;
    char text[32];
    const struct kw__mark_setting *settings = kw__marks_settings(record->marks, &count);
    kw_status status = kw__run_from_meter(run, meter, record->window, err);
    for (size_t i = 0; !status && i < count; i++)
        status = kw__kept_label(run, settings[i].name, settings[i].value, err);
    snprintf(text, sizeof text, "%d", record->exit_code);
    if (!status) status = kw__run_set(run, "run.exit_code", text, err);
    if (!status) status = kw__run_set(run, "run.kinowatt", kw_version(), err);
    snprintf(text, sizeof text, "%.3f", record->stopped_s);
    if (!status && record->stopped_s > 0) status = kw__run_set(run, "run.stopped_s", text, err);
    if (status) return status;
    note_windows(run, record, meter);
    label_hardware(run, catalog);
    return run->arena.failed ? kw__fail_memory(err) : KW_OK;
}
