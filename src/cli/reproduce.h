/*
 * What the files of kinowatt reproduce share: tables (each is a part of the page and a CSV file), figures
 * and the page.
 */
#ifndef KW__CLI_REPRODUCE_H
#define KW__CLI_REPRODUCE_H

#include "predict/reproduction.h"
#include "report/out.h"
#include "report/table.h"

/* The tables; the caller frees them. `page`: what the page shows, else every number for the CSV file. */
typedef void kw__repro_table(const struct kw__reproduction *r, bool page, struct kw__table *table);
kw__repro_table kw__repro_table_errors, kw__repro_table_sweeps, kw__repro_table_fit, kw__repro_table_models,
    kw__repro_table_h200, kw__repro_table_predicted, kw__repro_table_components, kw__repro_table_decoder,
    kw__repro_table_thresholds, kw__repro_table_constants, kw__repro_table_settings;

/* The figures; their columns go into the reproduction's arena. */
typedef void kw__repro_figure(struct kw__reproduction *r, struct kw__out *out);
kw__repro_figure kw__repro_figure_resolution, kw__repro_figure_frames, kw__repro_figure_steps,
    kw__repro_figure_fit, kw__repro_figure_models, kw__repro_figure_components, kw__repro_figure_decoder,
    kw__repro_figure_thresholds;

/* The page; `date` NULL: none. */
void kw__repro_page(const struct kw__reproduction *r, const char *date, struct kw__out *out);

/* Whether a computed figure rounds to a printed one of so many decimals. */
bool kw__repro_agrees(double printed, double computed, int decimals);
/* Decimals of a printed figure: 359.7 has 1. */
int kw__repro_decimals(double printed);

/* Seconds and joules of the decode stage; NULL when the prediction has none. */
const kw_cost *kw__repro_decode(const kw_prediction *prediction);

#endif
