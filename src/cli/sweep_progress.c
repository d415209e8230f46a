/* A sweep while it runs: lines on stderr. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/number.h"
#include "cli/sweep.h"

enum { LABEL = 256 };

static void write_line(struct kw__out *out)
{
    (void)kw__out_write_fd(out, STDERR_FILENO, NULL);
    kw__out_free(out);
}

/* "3/36", "warm-up", "anchor", to a width of its own. */
static void put_what(struct kw__out *out, const struct kw__sweep_event *event, int64_t ahead)
{
    char text[64];
    if (event->what == KW__SWEEP_MEASURES)
        snprintf(text, sizeof text, "%" PRId64 "/%" PRId64, event->done + ahead, event->done + event->wanted);
    else
        snprintf(text, sizeof text, "%s", event->what == KW__SWEEP_ANCHORS ? "anchor" : "warm-up");
    kw__out_printf(out, "%-8s ", text);
}

static void put_measured(struct kw__out *out, const struct kw__sweep_progress *progress,
                         const struct kw__sweep_row *row)
{
    char text[KW__FORMAT_SIZE];
    const double predicted = progress->forecast->points[row->point].latency_s;
    kw__out_printf(out, "  %s", isnan(row->latency_s) ? "no time" : kw__format_seconds(text, row->latency_s));
    for (int d = 0; d < KW_NUM_DEVICES; d++)
        if (!isnan(row->energy_j[d]))
            kw__out_printf(out, "  %s %s", kw_device_name(d), kw__format_wh(text, row->energy_j[d] / 3600));
    if (isnan(predicted) || isnan(row->latency_s)) return;
    kw__out_printf(out, "  predicted %s", kw__format_seconds(text, predicted));
    kw__out_printf(out, " (%+.1f %%)", 100 * (predicted / row->latency_s - 1));
}

void kw__sweep_tell(void *user, const struct kw__sweep_event *event)
{
    const struct kw__sweep_progress *progress = user;
    struct kw__out out;
    char label[LABEL], text[KW__FORMAT_SIZE];
    if (!event->row && !progress->terminal) return;
    kw__out_init(&out);
    if (progress->terminal) kw__out_puts(&out, "\r\033[K");
    put_what(&out, event, event->row ? 0 : 1);
    kw__cli_put(&out, kw__sweep_point_label(progress->plan, event->point, label, sizeof label));
    if (!event->row) {
        kw__out_puts(&out, "  ...");
        if (!isnan(event->predicted_s))
            kw__out_printf(&out, " %s", kw__format_seconds(text, event->predicted_s));
    } else if (event->row->failed) {
        kw__out_puts(&out, "  failed: ");
        kw__cli_put(&out, event->why ? event->why : "it ended with an error");
    } else {
        put_measured(&out, progress, event->row);
    }
    if (event->wanted && !isnan(event->left_s))
        kw__out_printf(&out, "  %s left", kw__format_seconds(text, event->left_s));
    if (event->row) kw__out_puts(&out, "\n");
    write_line(&out);
}

void kw__sweep_announce(const struct kw__sweep_progress *progress, const struct kw__sweep_state *state)
{
    const struct kw__sweep_plan *plan = progress->plan;
    struct kw__out out;
    char text[KW__FORMAT_SIZE], label[LABEL];
    int64_t done, wanted;
    kw__sweep_count(state, &done, &wanted);
    double left_s = kw__forecast_left_s(progress->forecast);
    kw__out_init(&out);
    kw__out_puts(&out, "Sweep ");
    kw__cli_put(&out, plan->options.name);
    kw__out_printf(&out, ": %zu point%s, %" PRId64 " run%s", plan->num_points,
                   kw__plural((int64_t)plan->num_points), done + wanted, kw__plural(done + wanted));
    if (done) kw__out_printf(&out, ", %" PRId64 " of them done", done);
    kw__out_puts(&out, "; anchor ");
    kw__cli_put(&out, kw__sweep_point_label(plan, plan->anchor, label, sizeof label));
    if (!isnan(left_s)) kw__out_printf(&out, "; %s left as predicted", kw__format_seconds(text, left_s));
    kw__out_puts(&out, "\n");
    write_line(&out);
}
