/* What the files of kinowatt compare share. */
#ifndef KW_CLI_COMPARE_H
#define KW_CLI_COMPARE_H

#include "base/arena.h"
#include "cli/cli.h"
#include "predict/calibration.h"
#include "predict/dataset.h"
#include "report/table.h"

enum kw__compare_kind { KW__COMPARE_PREDICTED, KW__COMPARE_PUBLISHED, KW__COMPARE_AS };

/* What a figure is divided by. */
enum kw__compare_unit { KW__PER_CLIP, KW__PER_SECOND, KW__PER_MEGAPIXEL_FRAME, KW__COMPARE_UNITS };
/* Latency and the GPU's energy are ranked, energies of other devices only shown. */
enum kw__compare_figure {
    KW__COMPARE_LATENCY,
    KW__COMPARE_ENERGY,
    KW__COMPARE_FIGURES,
    KW__COMPARE_CPU = KW__COMPARE_FIGURES,
    KW__COMPARE_RAM
};

/* A place among the entries of one source, from 1, least first; of the places that the intervals allow, the
 * first and the last. 0: the figure is absent, or there is nothing to compare it with. */
struct kw__compare_rank {
    int value, low, high, of;
};

struct kw__compare_entry {
    enum kw__compare_kind kind;
    int reference; /* number of the source below the table, of all but PREDICTED; from 1 */
    const char *model, *hardware, *source; /* in the arena */
    const char *stack, *note;              /* NULL: not said */
    const char *basis;                     /* NULL: measured, or predicted; else how it was computed */
    bool offload;                          /* of a published one: weights waited in host memory, as it says */
    int64_t width, height, num_frames, num_inference_steps, batch_size;
    double fps; /* NaN: not known */
    /* Of the whole batch, NaN when absent. Intervals are 90 %: a prediction's, or what the spread of the runs
     * makes of one of them; where that is not known the ends are the value. */
    kw_reading latency_s, energy_j[KW_NUM_DEVICES];
    struct kw__compare_rank ranks[KW__COMPARE_UNITS][KW__COMPARE_FIGURES];
    const char **warnings;
    size_t num_warnings;
};

struct kw__compare_reference {
    const char *dataset, *gpu, *source;
    const char *stack; /* of the prediction beside its rows; NULL: there is none */
};

enum { KW__COMPARE_SETS = 4 };
struct kw__comparison {
    struct kw__arena arena;
    const kw_catalog *catalog;
    const struct kw__options *options;
    struct kw__calibration *calibration;        /* that was named; NULL: none */
    struct kw__dataset *sets[KW__COMPARE_SETS]; /* NULL: left out */
    struct kw__compare_entry *entries;
    size_t count, capacity;
    struct kw__compare_reference *references;
    size_t num_references, reference_capacity;
};

extern const struct kw__compare_unit_info {
    const char *group, *suffix;
} kw__compare_units[KW__COMPARE_UNITS];

/* How many of a unit an entry is; NaN when that is not known. */
double kw__compare_amount(const struct kw__compare_entry *entry, enum kw__compare_unit unit);
/* One of the figures, in s or Wh for each of a unit. */
kw_reading kw__compare_figure(const struct kw__compare_entry *entry, enum kw__compare_unit unit,
                              enum kw__compare_figure figure);
/* Part of the energy of all devices; NaN unless all of them are known. */
double kw__compare_share(const struct kw__compare_entry *entry, int device);
void kw__compare_rank(struct kw__comparison *c);

/* The tables; the caller frees them. */
void kw__compare_csv(struct kw__table *table, const struct kw__comparison *c);
void kw__compare_text(struct kw__out *out, const struct kw__comparison *c);
/* Latency and energy of all sources on a log scale, as SVG. */
void kw__compare_svg(struct kw__out *out, struct kw__comparison *c);

#endif
