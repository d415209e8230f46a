#include "predict/calibrate_cpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/number.h"
#include "predict/calibration.h"

static json_t *number(double value)
{
    return isfinite(value) ? json_real(kw__number_round(value, 6)) : json_null();
}

/* ---- Parameters: what moves together ---------------------------------------------------------------- */

enum { GEMM, ATTENTION, CONV, MEMORY, LAUNCH, HOST, NUM_PARAMETERS };
static const char *const parameters[NUM_PARAMETERS] = {"gemm",   "attention", "conv",
                                                       "memory", "launch",    "host"};

static int parameter_of(const char *key)
{
    for (int p = GEMM; p <= CONV; p++)
        if (strncmp(key, parameters[p], strlen(parameters[p])) == 0) return p;
    return MEMORY;
}

static double work_of(const struct kw__micro_sample *s)
{
    return s->work.flop > 0 ? s->work.flop : s->work.memory_bytes;
}

/* ---- The fit ------------------------------------------------------------------------------------------ */

struct fit {
    const struct kw__micro_sample **order; /* by key, then by size */
    size_t count;
    double launch_s;
    double peak[3];                                          /* FLOP/s in bf16, in f32; bytes/s */
    double squares[NUM_PARAMETERS], samples[NUM_PARAMETERS]; /* residuals in log */
};

enum { BF16, F32, BYTES };

static int peak_of(const struct kw__micro_sample *s)
{
    if (!(s->work.flop > 0)) return BYTES;
    return strstr(s->work.key, "/bf16") ? BF16 : F32;
}

static int by_key_and_size(const void *a, const void *b)
{
    const struct kw__micro_sample *x = *(const struct kw__micro_sample *const *)a,
                                  *y = *(const struct kw__micro_sample *const *)b;
    int order = strcmp(x->work.key, y->work.key);
    if (order) return order;
    return (x->work.size > y->work.size) - (x->work.size < y->work.size);
}

/* Work per second beyond the cost of a call, which is never all of a sample's time. */
static double speed_of(const struct fit *f, const struct kw__micro_sample *s)
{
    return work_of(s) / fmax(s->seconds - f->launch_s, 0.1 * s->seconds);
}

/* Whether a sample can be used: what a backend does not run, as views, takes no time. */
static bool usable(const struct kw__micro_sample *s)
{
    return s->work.key[0] && work_of(s) > 0 && s->seconds > 0 && isfinite(s->seconds);
}

/* A call costs what the quickest operator takes, or less: the first percentile, halved. */
static double call_seconds(const struct kw__micro_samples *samples, double *room)
{
    size_t n = 0;
    double sd;
    for (size_t i = 0; i < samples->count; i++)
        if (usable(&samples->list[i])) room[n++] = samples->list[i].seconds;
    if (!n) return 0;
    kw__undisturbed(room, n, &sd, &(size_t){0}); /* sorts */
    return 0.5 * room[n / 100];
}

static void find_peaks(struct fit *f)
{
    for (size_t i = 0; i < f->count; i++) {
        double speed = speed_of(f, f->order[i]);
        int p = peak_of(f->order[i]);
        if (speed > f->peak[p]) f->peak[p] = speed;
    }
}

struct knot {
    double size, efficiency;
    size_t first, last; /* of the order */
};

/* One key's samples [first, last) to knots: neighbours within `factor` in size are one, with the speed at
 * which all of them are done. */
static int make_knots(const struct fit *f, size_t first, size_t last, double factor, struct knot *knots,
                      int most)
{
    int n = 0;
    for (size_t i = first; i < last;) {
        size_t begin = i;
        double log_size = 0, work = 0, seconds = 0, smallest = f->order[i]->work.size;
        for (; i < last && f->order[i]->work.size <= smallest * factor; i++) {
            log_size += log(fmax(f->order[i]->work.size, 1));
            work += work_of(f->order[i]);
            seconds += work_of(f->order[i]) / speed_of(f, f->order[i]);
        }
        if (n == most) return most + 1;
        double count = (double)(i - begin);
        knots[n++] = (struct knot){exp(log_size / count), work / seconds / f->peak[peak_of(f->order[begin])],
                                   begin, i};
    }
    return n;
}

static void add_residuals(struct fit *f, const struct knot *knot)
{
    const struct kw__micro_sample *s = f->order[knot->first];
    int p = parameter_of(s->work.key);
    for (size_t i = knot->first; i < knot->last; i++) {
        double r = log(speed_of(f, f->order[i]) / (knot->efficiency * f->peak[peak_of(f->order[i])]));
        f->squares[p] += r * r;
        f->samples[p] += 1;
    }
}

/* The rate of the key whose samples are [first, last). */
static json_t *make_rate(struct fit *f, size_t first, size_t last)
{
    struct knot knots[KW__MAX_KNOTS];
    double factor = 1.5;
    int n;
    while ((n = make_knots(f, first, last, factor, knots, KW__MAX_KNOTS)) > KW__MAX_KNOTS) factor *= 1.3;
    json_t *curve = json_array();
    for (int k = 0; k < n; k++) {
        add_residuals(f, &knots[k]);
        json_array_append_new(curve, json_pack("[o, o]", number(knots[k].size), number(knots[k].efficiency)));
    }
    char source[80];
    snprintf(source, sizeof source, "%zu operators timed on this machine", last - first);
    return json_pack("{s:o, s:s, s:s, s:o}", "efficiency", number(knots[n - 1].efficiency), "parameter",
                     parameters[parameter_of(f->order[first]->work.key)], "source", source, "curve", curve);
}

static json_t *make_rates(struct fit *f)
{
    json_t *rates = json_object();
    for (size_t first = 0, last; first < f->count; first = last) {
        const char *key = f->order[first]->work.key;
        for (last = first; last < f->count && strcmp(f->order[last]->work.key, key) == 0;) last++;
        json_object_set_new(rates, key, make_rate(f, first, last));
    }
    return rates;
}

/* ---- The file -------------------------------------------------------------------------------------- */

/* A parameter stands for what its class has in common: of the spread about the curves a part that does
 * not average out over operators, taken as the root of their mean, and the drift. */
static json_t *make_parameters(const struct fit *f, const struct kw__micro_samples *samples)
{
    json_t *out = json_object();
    for (int p = 0; p < NUM_PARAMETERS; p++) {
        double spread = f->samples[p] > 1 ? sqrt(f->squares[p] / (f->samples[p] - 1)) : 0.3;
        double sd = p >= LAUNCH ? 0.5 : hypot(0.02, spread / sqrt(fmax(f->samples[p], 1)));
        json_object_set_new(out, parameters[p],
                            json_pack("{s:o, s:o, s:s}", "prior_log_sd",
                                      number(hypot(sd, 0.5 * samples->drift)), "log_value", number(0),
                                      "source",
                                      p >= LAUNCH ? "a call of an operator, 0.1 to 1 us (judgement)"
                                                  : "spread of the operators about their curves"));
    }
    return out;
}

static json_t *make_errors(const struct fit *f, const struct kw__micro_samples *samples)
{
    double squares = 0, count = 0;
    for (int p = 0; p < NUM_PARAMETERS; p++) {
        squares += f->squares[p];
        count += f->samples[p];
    }
    double spread = count > 1 ? sqrt(squares / (count - 1)) : 0.3;
    /* a stage is many operators, whose errors average out in part */
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "session_log_sd_time", number(hypot(0.02, samples->drift)),
                     "session_log_sd_power", number(0), "model_log_sd_time",
                     number(hypot(0.03, 0.3 * spread)), "model_log_sd_energy", number(0),
                     "model_log_sd_power", number(0));
}

static json_t *make_machine(const struct fit *f, const struct kw__micro_samples *samples,
                            const struct kw__cpu_description *d)
{
    return json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:s}", "cpu", d->cpu, "cores", d->cores, "threads",
                     samples->threads > 0 ? samples->threads : d->cores, "bf16_flop_per_s",
                     f->peak[BF16] > 0 ? number(f->peak[BF16]) : json_null(), "fp32_flop_per_s",
                     number(f->peak[F32] > 0 ? f->peak[F32] : f->peak[BF16]), "bytes_per_s",
                     number(f->peak[BYTES] > 0 ? f->peak[BYTES] : 1e9), "source",
                     "the best that any operator reached in this calibration");
}

static json_t *make_left_out(const struct kw__micro_samples *samples)
{
    json_t *names = json_array();
    char name[KW__MICRO_NAME];
    for (size_t i = 0; i < kw__num_micro_scenes; i++)
        if (samples->left_out >> i & 1)
            json_array_append_new(names, json_string(kw__micro_scene_name(i, name)));
    return names;
}

static void fill_document(struct fit *f, const struct kw__micro_samples *samples,
                          const struct kw__cpu_description *d, json_t *root)
{
    char basis[240], busy[48] = "";
    if (!isnan(samples->other_cores))
        snprintf(busy, sizeof busy, ", %.1f of them busy with other processes", samples->other_cores);
    snprintf(basis, sizeof basis,
             "%zu operators timed on %.80s, %d cores%s; %.0f %% of the runs were disturbed", f->count, d->cpu,
             d->cores, busy, 100 * samples->disturbed);
    json_object_set_new(root, "schema", json_string("kinowatt.calibration/1"));
    json_object_set_new(root, "stack", json_string(d->stack));
    json_object_set_new(root, "hardware", json_string("cpu"));
    json_object_set_new(root, "date", json_string(d->date));
    json_object_set_new(root, "basis", json_string(basis));
    json_object_set_new(root, "rounds", json_integer((json_int_t)samples->rounds));
    json_object_set_new(root, "rounds_log_sd", number(samples->spread));
    json_object_set_new(root, "other_cores", number(samples->other_cores));
    json_object_set_new(root, "left_out", make_left_out(samples));
    json_object_set_new(root, "machine", make_machine(f, samples, d));
    json_t *rates = make_rates(f);
    json_object_set_new(root, "parameters", make_parameters(f, samples));
    json_object_set_new(root, "rates", rates);
    json_object_set_new(root, "memory", json_pack("{s:f, s:s}", "efficiency", 1.0, "parameter", "memory"));
    json_object_set_new(root, "launch",
                        json_pack("{s:o, s:f, s:s}", "seconds", number(fmax(f->launch_s, 1e-9)),
                                  "dispatch_seconds", 0.0, "parameter", "launch"));
    json_object_set_new(root, "host",
                        json_pack("{s:o, s:s}", "bytes_per_s",
                                  number(f->peak[BYTES] > 0 ? f->peak[BYTES] : 1e9), "parameter", "host"));
    json_object_set_new(root, "errors", make_errors(f, samples));
    json_object_set_new(root, "host_energy", json_null());
    json_object_set_new(root, "flops", json_null());
    json_object_set_new(root, "range", json_null());
    json_object_set_new(root, "sessions", json_object());
}

kw_status kw__calibrate_cpu(const struct kw__micro_samples *samples,
                            const struct kw__cpu_description *description, json_t **out, kw_error *err)
{
    struct fit f = {.order = malloc((samples->count + 1) * sizeof *f.order)};
    double *room = malloc((samples->count + 1) * sizeof *room);
    json_t *root = json_object();
    kw_status status = f.order && room && root ? KW_OK : kw__fail_memory(err);
    bool has_gemm = false;
    for (size_t i = 0; !status && i < samples->count; i++) {
        if (!usable(&samples->list[i])) continue;
        has_gemm |= parameter_of(samples->list[i].work.key) == GEMM;
        f.order[f.count++] = &samples->list[i];
    }
    if (!status && !has_gemm)
        status =
            kw__fail(err, KW_ERROR_UNSUPPORTED, "no matrix product was timed, so nothing can be calibrated");
    if (!status) {
        qsort(f.order, f.count, sizeof *f.order, by_key_and_size);
        f.launch_s = call_seconds(samples, room);
        find_peaks(&f);
        fill_document(&f, samples, description, root);
        *out = root;
        root = NULL;
    }
    json_decref(root);
    free(f.order);
    free(room);
    return status;
}
