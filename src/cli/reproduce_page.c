/*
 * The page of kinowatt reproduce, in Markdown.
 *
 * Every number in it is computed from what the reproduction holds, or printed by the paper and said to be.
 * Whether the two agree is computed too, never written down.
 */
#include "cli/reproduce.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const double j_per_wh = 3600;

static void put_table(const struct kw__reproduction *r, kw__repro_table *build, struct kw__out *out)
{
    struct kw__table table;
    build(r, true, &table);
    kw__table_render_markdown(&table, out);
    kw__table_free(&table);
}

static void put_figure(struct kw__out *out, const char *name, const char *text)
{
    kw__out_printf(out, "\n![%s](%s.svg)\n", text, name);
}

/* "**Stands for** section 3.4. Numbers: [fit.csv](fit.csv)." */
static void stands_for(struct kw__out *out, const char *what, const char *csv)
{
    kw__out_printf(out, "**Stands for** %s. Numbers: [%s.csv](%s.csv).\n\n", what, csv, csv);
}

static const char *verdict(bool agrees)
{
    return agrees ? "agrees" : "does not agree";
}

/* The row of a sweep with this request; NULL: none. */
static const struct kw__repro_point *find(const struct kw__repro_sweep *sweep, int64_t width, int64_t height,
                                          int64_t frames, int64_t steps)
{
    for (size_t i = 0; i < sweep->count; i++) {
        const struct kw__row *row = sweep->points[i].row;
        if (row->width == width && row->height == height && row->frames == frames && row->steps == steps)
            return &sweep->points[i];
    }
    return NULL;
}

static const struct kw__repro_model *find_model(const struct kw__reproduction *r, const char *name)
{
    for (size_t i = 0; i < r->num_models; i++)
        if (strcmp(r->models[i].model, name) == 0 && r->models[i].row) return &r->models[i];
    return NULL;
}

/* ---- The head ---- */

static void put_head(const struct kw__reproduction *r, const char *date, struct kw__out *out)
{
    kw__out_printf(out, "# %s, reproduced\n\n%s.\n\n", r->id, r->title);
    kw__out_puts(
        out, "- **Theirs**: what the paper prints (delavande2025_paper.json of the data folder), its closed "
             "form with its own constants, and the rows its authors published.\n");
    kw__out_printf(
        out,
        "- **Ours**: predictions of kinowatt %s, method kernel, for the same requests on %s with %s; "
        "calibration %s of %s: %s.\n",
        kw_version(), r->hardware, r->stack, r->calibration, r->calibration_date, r->calibration_basis);
    if (r->stand_in)
        kw__out_puts(
            out, "- **Mind**: that calibration is another stack's or another hardware's. Ours below are what "
                 "it gives when carried here, and are not what a fitted one gives.\n");
    else
        kw__out_puts(
            out, "- The shipped calibration has seen the rows of the three sweeps. Errors of fits that have "
                 "not seen the request, or the whole sweep, stand beside its own.\n");
    if (date) kw__out_printf(out, "- Made on %s.\n", date);
}

/* ---- What the published data mislabel: each with the evidence that is in the data ---- */

static void put_wan_label(const struct kw__reproduction *r, struct kw__out *out)
{
    const struct kw__repro_model *m = find_model(r, r->model);
    if (!m || !m->labelled) return;
    const struct kw__repro_point *as_labelled =
        find(&r->sweeps[0], m->label_width, m->label_height, m->row->frames, m->row->steps);
    const struct kw__repro_point *as_run =
        find(&r->sweeps[0], m->row->width, m->row->height, m->row->frames, m->row->steps);
    kw__out_printf(out,
                   "- **The WAN rows are labelled %" PRId64 "x%" PRId64 ", %" PRId64
                   " steps; they ran at %" PRId64 "x%" PRId64 ", %" PRId64 " steps**, as table 2 says.",
                   m->label_width, m->label_height, m->label_steps, m->row->width, m->row->height,
                   m->row->steps);
    if (as_labelled && as_run)
        kw__out_printf(out,
                       " The rows' mean is %.0f s; the resolution sweep has %.0f s there. At the label's "
                       "size the sweep has %.0f s, so %" PRId64 " steps would take about %.0f s.",
                       m->row->latency_s, as_run->row->latency_s, as_labelled->row->latency_s, m->label_steps,
                       as_labelled->row->latency_s * (double)m->label_steps / (double)m->row->steps);
    kw__out_puts(out, "\n");
}

static void put_ltx(const struct kw__reproduction *r, struct kw__out *out)
{
    const struct kw__repro_model *m = find_model(r, "ltx-video-0.9.7-dev");
    if (!m) return;
    double joules = m->printed_wh[KW_GPU][0] * j_per_wh;
    kw__out_printf(
        out,
        "- **LTX-Video's printed latency is its first stage alone; its energy is all three.** %.2f Wh in the "
        "printed %.1f s would be %.0f W on a card limited to %.0f W; in the %.1f s of all stages it is "
        "%.0f W. Table 2 says %" PRId64 " steps, the rows are of %" PRId64 ".\n",
        m->printed_wh[KW_GPU][0], m->printed_latency[0], joules / m->printed_latency[0], r->power_w,
        m->row->latency_s, joules / m->row->latency_s, m->steps, m->row->steps);
}

static void put_frames(const struct kw__reproduction *r, struct kw__out *out)
{
    const struct kw__repro_sweep *frames = &r->sweeps[1], *steps = &r->sweeps[2];
    size_t rounded = 0;
    for (size_t i = 0; i < frames->count; i++)
        rounded += frames->points[i].row->frames != frames->points[i].ours->request.num_frames;
    kw__out_printf(
        out,
        "- **Frames are as asked for, not as made.** The pipeline makes 4n + 1: %zu of the %zu rows of the "
        "frame sweep ran another number than their label.",
        rounded, frames->count);
    for (size_t i = 0; i + 1 < frames->count; i++) {
        const struct kw__repro_point *a = &frames->points[i];
        for (size_t k = i + 1; k < frames->count; k++) {
            const struct kw__repro_point *b = &frames->points[k];
            if (a->ours != b->ours || a->row->frames != a->ours->request.num_frames) continue;
            kw__out_printf(out,
                           " %" PRId64 " and %" PRId64 " are one request: %.1f and %.1f s, %.2f %% apart.",
                           a->row->frames, b->row->frames, a->row->latency_s, b->row->latency_s,
                           100 * fabs(b->row->latency_s / a->row->latency_s - 1));
        }
    }
    kw__out_puts(out, "\n");
    const struct kw__row *row = steps->points[0].row;
    double printed = kw__repro_printed(r, "sweeps", "steps_frames");
    const struct kw__repro_point *short_clip = find(steps, row->width, row->height, row->frames, 50);
    const struct kw__repro_point *long_clip = find(frames, row->width, row->height, (int64_t)printed, 50);
    kw__out_printf(out,
                   "- **The step sweep is said to have %.0f frames; its rows have %" PRId64
                   ", which the pipeline makes "
                   "%" PRId64 " of.**",
                   printed, row->frames, steps->points[0].ours->request.num_frames);
    if (short_clip && long_clip)
        kw__out_printf(out, " At 50 steps it takes %.1f s; %.0f frames take %.1f s in the frame sweep.",
                       short_clip->row->latency_s, printed, long_clip->row->latency_s);
    kw__out_puts(out, "\n");
}

static void put_sessions(const struct kw__reproduction *r, struct kw__out *out)
{
    const struct kw__repro_model *m = find_model(r, r->model);
    if (!m) return;
    const struct kw__row *row = m->row;
    double low = row->latency_s, high = row->latency_s;
    kw__out_printf(out,
                   "- **One request in several sessions.** %" PRId64 "x%" PRId64 ", %" PRId64
                   " frames, %" PRId64 " steps:",
                   row->width, row->height, row->frames, row->steps);
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        const struct kw__repro_point *p =
            find(&r->sweeps[s], row->width, row->height, row->frames, row->steps);
        if (!p) continue;
        kw__out_printf(out, " %.1f s in the %s sweep,", p->row->latency_s, r->sweeps[s].axis);
        low = fmin(low, p->row->latency_s);
        high = fmax(high, p->row->latency_s);
    }
    kw__out_printf(
        out,
        " %.1f s in the model rows: %.1f %% apart, where runs of one session differ by %.2f %% (standard "
        "deviation). No comparison across sessions can be better.\n",
        row->latency_s, 100 * (high / low - 1), 100 * row->latency_sd_s / row->latency_s);
}

static void put_other_labels(const struct kw__reproduction *r, struct kw__out *out)
{
    const struct kw__row *largest = r->sweeps[0].points[r->sweeps[0].count - 1].row;
    const struct kw__repro_model *mochi = find_model(r, "mochi-1-preview");
    if (mochi) /* the decoder makes 6 frames of each latent frame but the first */
        kw__out_printf(out,
                       "- **Mochi** is listed with %" PRId64 " frames; its pipeline makes %" PRId64 ".\n",
                       mochi->frames, 6 * ((mochi->frames - 1) / 6) + 1);
    kw__out_printf(
        out,
        "- **The resolution sweep** is said to reach %.0fx%.0f; the largest published row is %" PRId64
        "x%" PRId64 ".\n",
        kw__repro_printed(r, "sweeps", "largest_width"), kw__repro_printed(r, "sweeps", "largest_height"),
        largest->width, largest->height);
    kw__out_printf(
        out,
        "- **Runs.** The text says %.0f warm-ups and %.0f runs. The sweep tables carry %.0f warm-up and %.0f "
        "runs, the job scripts %.0f to %.0f runs.\n",
        kw__repro_printed(r, "sweeps", "warmup_runs"), kw__repro_printed(r, "sweeps", "runs"),
        kw__repro_printed(r, "sweeps", "warmup_in_tables"), kw__repro_printed(r, "sweeps", "runs_in_tables"),
        kw__repro_printed(r, "sweeps", "runs_in_scripts_least"),
        kw__repro_printed(r, "sweeps", "runs_in_scripts_most"));
}

static void put_accelerator_notes(const struct kw__reproduction *r, struct kw__out *out)
{
    for (size_t i = 0; i < r->num_accelerators; i++) {
        const struct kw__repro_accelerator *a = &r->accelerators[i];
        double balance = a->flop_per_s / a->bytes_per_s;
        if (fabs(balance - a->balance) > 1)
            kw__out_printf(
                out,
                "- **%s**: the printed %.0f TFLOP/s over the printed %.2f TB/s is %.0f, not the printed "
                "%.0f.\n",
                a->title, a->flop_per_s / 1e12, a->bytes_per_s / 1e12, balance, a->balance);
        if (a->note) kw__out_printf(out, "- **%s**: %s.\n", a->title, a->note);
        if (fabs(a->flop_per_s / a->our_flop_per_s - 1) > 0.1)
            kw__out_printf(
                out,
                "- **%s**: the printed peak of %.0f TFLOP/s is not the dense bf16 one of %.1f TFLOP/s with "
                "fp32 accumulation (profile %s, with its source).\n",
                a->title, a->flop_per_s / 1e12, a->our_flop_per_s / 1e12, a->hardware);
    }
}

/* ---- Sections ---- */

static void put_errors(const struct kw__reproduction *r, struct kw__out *out)
{
    char buffer[96];
    kw__out_puts(out, "\n## 1. The three sweeps and their errors\n\n");
    snprintf(buffer, sizeof buffer, "section 5.1, figures 2, 3 and 4, %s", kw__repro_where(r, "errors"));
    stands_for(out, buffer, "errors");
    put_table(r, kw__repro_table_errors, out);
    kw__out_puts(
        out,
        "\nMeans of absolute relative errors. Latency: all resolutions, and the frame and step counts "
        "that are multiples of 4, which are the ones the paper scores. Energy: all rows that have a public "
        "one. *ours*: the shipped calibration, which is fitted to all rows and predicts a session of average "
        "speed; *request out*: fitted to all rows but those of the request, so it knows how fast the row's "
        "session was; *sweep out*: fitted to the other two sweeps.\n\n");
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        const struct kw__repro_sweep *w = &r->sweeps[s];
        kw__out_printf(
            out,
            "- %s, latency: the closed form on the public rows gives %.2f %%; the printed %.1f %% %s. Its "
            "largest error is %.0f %%, ours %.1f %%.\n",
            w->axis, w->paper_latency.mean, w->printed_latency,
            verdict(kw__repro_agrees(w->printed_latency, w->paper_latency.mean, 1)), w->paper_latency.largest,
            w->ours_latency.largest);
    }
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        const struct kw__repro_sweep *w = &r->sweeps[s];
        bool whole = (size_t)w->paper_energy.count == w->count;
        kw__out_printf(
            out,
            "- %s, energy: %d of %zu rows have a public GPU energy; on them the closed form gives %.2f %%",
            w->axis, w->paper_energy.count, w->count, w->paper_energy.mean);
        if (whole)
            kw__out_printf(out, "; the printed %.1f %% %s.\n", w->printed_energy,
                           verdict(kw__repro_agrees(w->printed_energy, w->paper_energy.mean, 1)));
        else
            kw__out_printf(out,
                           ". The printed %.1f %% is of rows that are not public, and can't be checked.\n",
                           w->printed_energy);
    }
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        snprintf(buffer, sizeof buffer, "The %s sweep: GPU energy and latency, and the errors of both",
                 r->sweeps[s].axis);
        kw__out_printf(out, "\n### The %s sweep (%s)\n", r->sweeps[s].axis, r->sweeps[s].figure);
        put_figure(out, r->sweeps[s].axis, buffer);
    }
    kw__out_puts(out, "\nEvery row of the three: [sweeps.csv](sweeps.csv).\n");
}

static void put_fit(const struct kw__reproduction *r, struct kw__out *out)
{
    kw__out_puts(out, "\n## 2. The fit of mu\n\n");
    stands_for(out, kw__repro_where(r, "fit"), "fit");
    put_table(r, kw__repro_table_fit, out);
    kw__out_printf(
        out,
        "\nLatency by least squares over all public rows of the sweeps. mu is a share of %.0f TFLOP/s.\n\n",
        r->peak_flop_per_s / 1e12);
    kw__out_printf(
        out,
        "- Through zero, on the public rows: mu %.3f, %.1f %% from the printed %.3f; R2 %.4f, the printed "
        "%.3f. The authors' fit has more rows than are public.\n",
        r->through_zero.mu, 100 * fabs(r->through_zero.mu / r->printed_mu - 1), r->printed_mu,
        r->through_zero.r2, r->printed_r2);
    kw__out_printf(
        out,
        "- The paper calls the overhead negligible. With a constant in the fit it is %.1f s, mu is %.3f and "
        "R2 is %.4f: the shortest row takes %.1f s in all.\n",
        r->with_overhead.overhead_s, r->with_overhead.mu, r->with_overhead.r2,
        r->sweeps[1].points[0].row->latency_s);
    double ratio = 0;
    for (int c = 0; c < KW__REPRO_COMPONENTS; c++) ratio += r->breakdowns[2].paper_flop[c];
    ratio /= r->breakdowns[2].ours->total.flop;
    kw__out_printf(out,
                   "- mu belongs to the closed form's FLOPs, which are %.2f times the model's at %" PRId64
                   "x%" PRId64 ". Of exact FLOPs the card reaches %.3f of its peak.\n",
                   ratio, r->breakdowns[2].ours->request.width, r->breakdowns[2].ours->request.height,
                   r->exact.mu);
    put_figure(out, "fit", "Latency against the FLOPs of the closed form and of the exact graph");
}

static void put_models(const struct kw__reproduction *r, struct kw__out *out)
{
    kw__out_puts(out, "\n## 3. The models\n\n");
    stands_for(out, kw__repro_where(r, "models"), "models");
    put_table(r, kw__repro_table_models, out);
    kw__out_puts(
        out,
        "\n*rows*: means of the authors' per-prompt rows, all stages. What does not round to the printed "
        "figure is named in the last column.\n\nPredicted, where the model is built in "
        "([predicted.csv](predicted.csv)); no row of this table is in the calibration's fit, and no row of "
        "the 14B model at all; the 1.3B model's request is, by rows of the sweeps:\n\n");
    put_table(r, kw__repro_table_predicted, out);
    kw__out_puts(
        out,
        "\n*The same models on H200s*: diffusers 0.40, random weights "
        "(data/measured/h200-diffusers; [h200.csv](h200.csv)). Only rows called *measured* had all their steps; the "
        "others are computed from runs with fewer. The paper ran CogVideoX and Mochi with CPU offload. *ours*: predictions "
        "by the H200's calibration, which is fitted to runs of the 1.3B model there.\n\n");
    put_table(r, kw__repro_table_h200, out);
    double least = INFINITY, most = 0, low = INFINITY;
    for (size_t i = 0; i < r->num_models; i++) {
        if (!r->models[i].row) continue;
        const double *wh = r->models[i].row->energy_wh;
        double share = 100 * wh[KW_GPU] / (wh[KW_GPU] + wh[KW_CPU] + wh[KW_RAM]);
        low = fmin(low, share);
        least = fmin(least, wh[KW_GPU] + wh[KW_CPU] + wh[KW_RAM]);
        most = fmax(most, wh[KW_GPU] + wh[KW_CPU] + wh[KW_RAM]);
    }
    kw__out_printf(
        out,
        "\n- The three devices together take %.2f to %.1f Wh a clip, a factor of %.0f; the GPU has at least "
        "%.1f %% of it.\n",
        least, most, most / least, low);
    put_figure(out, "models", "GPU energy, latency and shares of the models");
}

static void put_components(const struct kw__reproduction *r, struct kw__out *out)
{
    kw__out_puts(out, "\n## 4. The components\n\n");
    stands_for(out,
               "section 3.3, table 1 and the layers of figures 2 to 4 (the paper has no table of shares)",
               "components");
    put_table(r, kw__repro_table_components, out);
    kw__out_puts(
        out,
        "\n*other*: patch embedding, text projection, output head, solver, conversion of the frames: not "
        "in the closed form. The constants behind it ([constants.csv](constants.csv)):\n\n");
    put_table(r, kw__repro_table_constants, out);
    const struct kw__repro_breakdown *b = &r->breakdowns[2];
    kw__out_printf(
        out,
        "\n- The widths are the defaults of the model's class, not those of its config. The closed form "
        "counts %.2f times the FLOPs of self-attention, %.2f of the MLP and %.2f of the decoder "
        "(%" PRId64 "x%" PRId64 ").\n",
        b->paper_flop[KW__REPRO_SELF] / b->flop[KW__REPRO_SELF],
        b->paper_flop[KW__REPRO_MLP] / b->flop[KW__REPRO_MLP],
        b->paper_flop[KW__REPRO_DECODER] / b->flop[KW__REPRO_DECODER], b->ours->request.width,
        b->ours->request.height);
    kw__out_printf(
        out,
        "- The authors' script takes %.0f as width of the text encoder and an MLP of %.0f times it, where "
        "table 5 has %.0f and %.1f.\n",
        kw__repro_printed(r, "constants", "code_text_width"),
        kw__repro_printed(r, "constants", "code_text_mlp_factor"),
        kw__repro_printed(r, "constants", "text_width"),
        kw__repro_printed(r, "constants", "text_mlp_factor"));
    put_figure(out, "components", "Shares of the components by FLOPs and by time");
}

static void put_decoder(const struct kw__reproduction *r, struct kw__out *out)
{
    const struct kw__repro_sweep *sizes = &r->sweeps[0];
    const kw_prediction *small = sizes->points[0].ours, *large = sizes->points[sizes->count - 1].ours;
    const kw_cost *a = kw__repro_decode(small), *z = kw__repro_decode(large);
    kw__out_puts(out, "\n## 5. The VAE decoder\n\n");
    stands_for(
        out,
        "the decoder's layer of figures 2 and 3, and section 3.6, which calls the auxiliaries negligible",
        "decoder");
    put_table(r, kw__repro_table_decoder, out);
    if (a && z) {
        double power[2] = {a->latency_s.value, z->latency_s.value};
        kw__out_printf(
            out,
            "\n- Ours takes %.1f %% of the latency at %" PRId64 "x%" PRId64 " and %.1f %% at %" PRId64
            "x%" PRId64 ". It grows with the pixels to the power of %.2f, and with frames in proportion, "
            "while self-attention tends to the square: its share falls, and matters most for short, small "
            "clips and few steps.\n",
            100 * power[0] / small->total.latency_s.value, small->request.width, small->request.height,
            100 * power[1] / large->total.latency_s.value, large->request.width, large->request.height,
            log(power[1] / power[0]) / log(sizes->points[sizes->count - 1].x / sizes->points[0].x));
    }
    kw__out_puts(
        out, "- The closed form leaves out the residual blocks at full resolution and prices convolutions in "
             "fp32 at mu of the bf16 peak; so its decoder is too fast. The paper measures no component, so "
             "neither curve is confirmed by it.\n");
    put_figure(out, "decoder", "Seconds and shares of the VAE decoder against size and frames");
}

static void put_thresholds(const struct kw__reproduction *r, struct kw__out *out)
{
    kw__out_puts(out, "\n## 6. Where compute bounds\n\n");
    stands_for(out, kw__repro_where(r, "thresholds"), "thresholds");
    put_table(r, kw__repro_table_thresholds, out);
    kw__out_puts(
        out,
        "\nTokens from which on attention and the MLP are bound by compute, in bf16 (2 bytes): peak over "
        "bandwidth, and twice that. *Agrees*: printed balance against printed peak over printed "
        "bandwidth, to 1.\n\n");
    put_accelerator_notes(r, out);
    kw__out_puts(
        out,
        "- The derivation counts half the traffic of attention (2ld scalars, where Q, K, V and the output "
        "are 4ld) and takes the MLP's limit for l far below d. Both thresholds are of that form here "
        "too, so that they can be compared.\n");
    put_figure(out, "thresholds", "Thresholds of attention by accelerator");
}

static void put_settings(const struct kw__reproduction *r, struct kw__out *out)
{
    kw__out_puts(out, "\n## 7. Settings, and what the published data mislabel\n\n");
    stands_for(out, kw__repro_where(r, "settings"), "settings");
    put_table(r, kw__repro_table_settings, out);
    kw__out_puts(out, "\n");
    put_wan_label(r, out);
    put_ltx(r, out);
    put_other_labels(r, out);
    put_frames(r, out);
    put_sessions(r, out);
}

/* ---- What is in the page ---- */

static void put_summary(const struct kw__reproduction *r, struct kw__out *out)
{
    int latencies = 0, energies = 0, energy_sets = 0, constants = 0;
    size_t settings = 0, models = 0, figures = 0, balances = 0;
    for (int s = 0; s < KW__REPRO_SWEEPS; s++) {
        const struct kw__repro_sweep *w = &r->sweeps[s];
        latencies += kw__repro_agrees(w->printed_latency, w->paper_latency.mean, 1);
        if ((size_t)w->paper_energy.count < w->count) continue;
        energy_sets++;
        energies += kw__repro_agrees(w->printed_energy, w->paper_energy.mean, 1);
    }
    for (size_t i = 0; i < r->num_models; i++) {
        const struct kw__repro_model *m = &r->models[i];
        if (!m->row) continue;
        models++;
        settings += m->steps == m->row->steps && m->width == m->row->width && m->height == m->row->height;
        for (int q = 0; q < 1 + KW_NUM_DEVICES; q++) {
            double printed = q ? m->printed_wh[q - 1][0] : m->printed_latency[0];
            double computed = q ? m->row->energy_wh[q - 1] : m->row->latency_s;
            figures += kw__repro_agrees(printed, computed, kw__repro_decimals(printed));
        }
    }
    for (size_t i = 0; i < r->num_accelerators; i++) {
        const struct kw__repro_accelerator *a = &r->accelerators[i];
        balances += fabs(a->flop_per_s / a->bytes_per_s - a->balance) <= 1;
    }
    for (int i = 0; i < KW__REPRO_CONSTANTS; i++)
        constants += kw__repro_agrees(r->constants[i].paper, r->constants[i].real, 0);
    const struct kw__repro_breakdown *b = &r->breakdowns[0];
    double flop = 0, seconds = 0;
    for (int c = 0; c < KW__REPRO_COMPONENTS; c++) {
        flop += b->paper_flop[c];
        seconds += b->latency_s[c];
    }
    kw__out_puts(out, "\n| Part of the paper | Section | Outcome |\n| --- | --- | --- |\n");
    kw__out_printf(
        out,
        "| table 3, figures 2 to 4: errors | 1 | %d of %d printed latency errors come out of the public "
        "rows, and %d of the %d energy errors whose rows are all public |\n",
        latencies, KW__REPRO_SWEEPS, energies, energy_sets);
    kw__out_printf(
        out, "| section 3.4: mu | 2 | %.3f for the printed %.3f; an overhead of %.1f s, not negligible |\n",
        r->through_zero.mu, r->printed_mu, r->with_overhead.overhead_s);
    kw__out_printf(out,
                   "| table 4, figure 5: models | 3 | %zu of %zu printed means are those of the rows |\n",
                   figures, (1 + KW_NUM_DEVICES) * models);
    kw__out_printf(
        out, "| tables 1 and 5: components | 4 | %d of %d constants are those of the model's config |\n",
        constants, KW__REPRO_CONSTANTS);
    kw__out_printf(out,
                   "| figures 2 and 3: decoder | 5 | %.1f %% of the time at %" PRId64 "x%" PRId64
                   " by ours, %.1f %% by the closed form |\n",
                   100 * b->latency_s[KW__REPRO_DECODER] / seconds, b->ours->request.width,
                   b->ours->request.height, 100 * b->paper_flop[KW__REPRO_DECODER] / flop);
    kw__out_printf(out,
                   "| table 7: thresholds | 6 | %zu of %zu follow from the printed peak and bandwidth |\n",
                   balances, r->num_accelerators);
    kw__out_printf(out, "| table 2: settings | 7 | %zu of %zu have the size and steps of the rows |\n",
                   settings, models);
}

void kw__repro_page(const struct kw__reproduction *r, const char *date, struct kw__out *out)
{
    put_head(r, date, out);
    put_summary(r, out);
    put_errors(r, out);
    put_fit(r, out);
    put_models(r, out);
    put_components(r, out);
    put_decoder(r, out);
    put_thresholds(r, out);
    put_settings(r, out);
}
