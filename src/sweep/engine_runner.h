/* Runs a sweep's points on our engine: what `kinowatt generate` measures, without writing a clip.
 *
 * Pipelines stay open from one repeat to the next as far as half of the machine's memory holds them; the one
 * that was not used for longest is closed first. A point is cold when its pipeline is not open. */
#ifndef KW_SWEEP_ENGINE_RUNNER_H
#define KW_SWEEP_ENGINE_RUNNER_H

#include "sweep/session.h"

struct kw__engine_runner;

struct kw__engine_runner_options {
    const kw_catalog *catalog; /* these three are the caller's, and must live as long */
    const struct kw__sweep_plan *plan;
    kw_meter *meter;
    void *user;
    bool (*stopped)(void *user);
};

/* Opens the anchor's pipeline, without its weights: what is wrong with model, prompt, weights or memory is
 * found before anything runs. Also fills what the forecast needs. */
kw_status kw__engine_runner_open(const struct kw__engine_runner_options *options,
                                 struct kw__engine_runner **out, struct kw__forecast_options *forecast,
                                 kw_error *err);
void kw__engine_runner_close(struct kw__engine_runner *runner);

struct kw__sweep_runner kw__engine_runner_of(struct kw__engine_runner *runner);

#endif
