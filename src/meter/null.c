/* The source that measures nothing and says so: for runs that are not to be metered. */
#include "meter/source.h"

static kw_status open_null(struct kw__source *source, kw_error *err)
{
    (void)err;
    for (int device = 0; device < KW_NUM_DEVICES; device++)
        kw__source_absent(source, device, "choose another meter", "metering is off (the meter is null)");
    return KW_OK;
}

static void read_null(struct kw__source *source, struct kw__sample *samples)
{
    (void)source;
    (void)samples;
}

static void close_null(struct kw__source *source)
{
    (void)source;
}

const struct kw__source_class kw__null_source = {
    .name = "null",
    .covers = {true, true, true},
    .period_s = 1,
    .open = open_null,
    .read = read_null,
    .close = close_null,
};
