/*
 * One table, three readers: aligned text for the terminal, CSV for machines, Markdown for notes.
 *
 * A cell holds what people read and, where that is rounded or scaled ("3 min 12 s"), also the
 * exact number that CSV gets (192.3, in the column's machine name `latency_s`).
 *
 * Invariants
 * - Absence is never 0: a NULL text or a NaN prints as an en dash and is an empty CSV field.
 * - Everything is copied; nothing the caller passes need outlive the call.
 * - Failure is sticky: lack of memory, more than KW__TABLE_COLUMNS columns, a column added after
 *   the first row or a cell past the last column set `failed`, and every rendering then fails its
 *   kw__out. Nothing is dropped silently.
 * - A row may be left short: its missing cells are absent.
 */
#ifndef KW__REPORT_TABLE_H
#define KW__REPORT_TABLE_H

#include "report/out.h"

#define KW__TABLE_COLUMNS 64

enum kw__align { KW__ALIGN_LEFT, KW__ALIGN_RIGHT };

struct kw__column {
    const char *title; /* for people: "Latency" */
    const char *unit;  /* shown after the title in parentheses; NULL for none */
    const char *name;  /* for machines: "latency_s"; NULL takes the title */
    const char *group; /* heading over neighbouring columns of equal group; NULL for none */
    enum kw__align align;
};

struct kw__table_cell {
    char *text;    /* NULL: absent */
    char *machine; /* CSV's version where it differs; NULL: text */
};

struct kw__table_row {
    struct kw__table_cell *cells; /* n_columns of them */
    size_t used;
    bool rule; /* a thin line above it, for totals */
};

struct kw__table {
    struct kw__column columns[KW__TABLE_COLUMNS];
    size_t n_columns;
    struct kw__table_row *rows;
    size_t n_rows;
    size_t cap_rows;
    bool failed;
};

void kw__table_init(struct kw__table *table);
void kw__table_free(struct kw__table *table);
void kw__table_column(struct kw__table *table, const struct kw__column *column);

void kw__table_row(struct kw__table *table);
/* As kw__table_row, with a thin line above in text (Markdown and CSV have no such thing). */
void kw__table_row_ruled(struct kw__table *table);

/* The next cell of the last row. */
void kw__table_text(struct kw__table *table, const char *text);
/* `shown` for people, `value` for machines; absent when `value` is NaN. */
void kw__table_value(struct kw__table *table, const char *shown, double value);
/* `decimals` places for people, the exact value for machines; absent when NaN. */
void kw__table_number(struct kw__table *table, int decimals, double value);

/* Two spaces between columns, right-aligned numbers, no trailing blanks, control characters
 * replaced: a model's folder name or a prompt must not steer the terminal. */
void kw__table_render_text(const struct kw__table *table, struct kw__out *out);
/* A header of machine names, then one line per row, ended by a bare line feed. */
void kw__table_render_csv(const struct kw__table *table, struct kw__out *out);
/* GitHub's pipe tables; a group becomes "group: title". */
void kw__table_render_markdown(const struct kw__table *table, struct kw__out *out);

/* Columns of a fixed-width terminal that `text` takes: 0 for combining marks, 2 for East Asian
 * wide characters and emoji, 1 for the rest. */
size_t kw__text_columns(const char *text);

#endif
