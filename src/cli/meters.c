#include "cli/meters.h"

#include <string.h>

#include "base/error.h"
#include "meter/meter.h"

/* Whether a list holds nothing but meters of devices. */
static bool is_list(const char *text)
{
    while (strncmp(text, "nvml", 4) == 0 || strncmp(text, "rapl", 4) == 0) {
        text += 4;
        if (!*text) return true;
        if (*text++ != ',') return false;
    }
    return false;
}

/* Which devices are measured; a device is when each of its channels is. Fails when a named meter has none. */
static kw_status check(kw_meter *meter, const char *name, bool metered[KW_NUM_DEVICES], kw_error *err)
{
    struct kw__meter_line lines[32];
    size_t count = kw__meter_lines(meter, lines, sizeof lines / sizeof lines[0]);
    const struct kw__meter_line *missing = NULL;
    bool any = false;
    for (int d = 0; d < KW_NUM_DEVICES; d++) metered[d] = false;
    for (size_t i = 0; i < count; i++)
        if (lines[i].can) metered[lines[i].device] = true;
    for (size_t i = 0; i < count; i++) {
        if (lines[i].can) continue;
        metered[lines[i].device] = false;
        if (!missing) missing = &lines[i];
    }
    for (int d = 0; d < KW_NUM_DEVICES; d++) any = any || metered[d];
    if (any || !missing || !is_list(name)) return KW_OK;
    return kw__fail(err, KW_ERROR_DEVICE, "--meter %s measures nothing here: %s%s%s", name, missing->detail,
                    *missing->remedy ? "; " : "", missing->remedy);
}

kw_status kw__meters_open(const char *name, size_t max_windows, kw_meter **out, bool metered[KW_NUM_DEVICES],
                          kw_error *err)
{
    kw_meter_options options = KW_METER_OPTIONS_INIT;
    options.start_timeout_s = 5;
    options.max_windows = max_windows;
    if (strcmp(name, "none") == 0)
        options.sources = "null";
    else if (is_list(name))
        options.sources = name;
    else if (strncmp(name, "replay:", 7) == 0 && name[7]) {
        options.sources = "replay";
        options.trace = name + 7;
    } else if (strcmp(name, "auto") != 0)
        return kw__fail(err, KW_ERROR_USAGE,
                        "--meter '%.80s' is not known; auto, nvml, rapl, nvml,rapl, replay:FILE and none are",
                        name);
    kw_status status = kw_meter_open(&options, out, err);
    if (!status) status = check(*out, name, metered, err);
    return status;
}
