/*
 * Tables as text, CSV and Markdown; table.h is the manual.
 *
 * Widths are counted in terminal columns of the text as printed (after control characters are
 * replaced), which is why measuring and printing share clean().
 */
#include "report/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/number.h"

#define ABSENT "\xE2\x80\x93" /* en dash */
#define THIN "\xE2\x94\x80"   /* box drawings light horizontal */
#define GAP 2

enum style { TERMINAL, MARKDOWN };

void kw__table_init(struct kw__table *table)
{
    *table = (struct kw__table){0};
}

void kw__table_free(struct kw__table *table)
{
    for (size_t c = 0; c < table->n_columns; c++) {
        free((char *)table->columns[c].title);
        free((char *)table->columns[c].unit);
        free((char *)table->columns[c].name);
        free((char *)table->columns[c].group);
    }
    for (size_t r = 0; r < table->n_rows; r++) {
        for (size_t c = 0; c < table->rows[r].used; c++) {
            free(table->rows[r].cells[c].text);
            free(table->rows[r].cells[c].machine);
        }
        free(table->rows[r].cells);
    }
    free(table->rows);
    kw__table_init(table);
}

/* NULL stays NULL; lack of memory is noted in the table. */
static char *copy(struct kw__table *table, const char *text)
{
    if (text == NULL) {
        return NULL;
    }
    size_t n = strlen(text) + 1;
    char *mine = malloc(n);
    if (mine == NULL) {
        table->failed = true;
        return NULL;
    }
    return memcpy(mine, text, n);
}

void kw__table_column(struct kw__table *table, const struct kw__column *column)
{
    if (table->n_columns == KW__TABLE_COLUMNS || table->n_rows > 0) {
        table->failed = true;
        return;
    }
    struct kw__column *mine = &table->columns[table->n_columns++];
    mine->title = copy(table, column->title);
    mine->unit = copy(table, column->unit);
    mine->name = copy(table, column->name);
    mine->group = copy(table, column->group);
    mine->align = column->align;
}

static void add_row(struct kw__table *table, bool rule)
{
    if (table->failed) {
        return;
    }
    if (table->n_rows == table->cap_rows) {
        size_t cap = table->cap_rows == 0 ? 16 : 2 * table->cap_rows;
        struct kw__table_row *rows = realloc(table->rows, cap * sizeof *rows);
        if (rows == NULL) {
            table->failed = true;
            return;
        }
        table->rows = rows;
        table->cap_rows = cap;
    }
    /* One more than needed: calloc of nothing may return NULL without having failed. */
    struct kw__table_cell *cells = calloc(table->n_columns + 1, sizeof *cells);
    if (cells == NULL) {
        table->failed = true;
        return;
    }
    table->rows[table->n_rows++] = (struct kw__table_row){.cells = cells, .rule = rule};
}

void kw__table_row(struct kw__table *table)
{
    add_row(table, false);
}

void kw__table_row_ruled(struct kw__table *table)
{
    add_row(table, true);
}

static void add_cell(struct kw__table *table, const char *text, const char *machine)
{
    if (table->failed) {
        return;
    }
    if (table->n_rows == 0 || table->rows[table->n_rows - 1].used == table->n_columns) {
        table->failed = true;
        return;
    }
    struct kw__table_row *row = &table->rows[table->n_rows - 1];
    struct kw__table_cell *cell = &row->cells[row->used++];
    cell->text = copy(table, text);
    cell->machine = copy(table, machine);
}

void kw__table_text(struct kw__table *table, const char *text)
{
    add_cell(table, text, NULL);
}

void kw__table_value(struct kw__table *table, const char *shown, double value)
{
    char exact[KW__FORMAT_SIZE];
    if (isnan(value)) {
        add_cell(table, NULL, NULL);
    } else {
        add_cell(table, shown, kw__format_exact(exact, value));
    }
}

void kw__table_number(struct kw__table *table, int decimals, double value)
{
    /* The longest double takes 309 digits before its point. */
    char shown[400];
    (void)kw__number_format(shown, sizeof shown, "%.*f", decimals < 40 ? decimals : 40, value);
    kw__table_value(table, shown, value);
}

/* ---- widths ---- */

static size_t columns_of(uint32_t code)
{
    static const uint32_t none[][2] = {
        {0x0300, 0x036F}, {0x200B, 0x200F}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}};
    static const uint32_t wide[][2] = {
        {0x1100, 0x115F}, {0x2E80, 0x303E}, {0x3041, 0xA4CF}, {0xAC00, 0xD7A3},   {0xF900, 0xFAFF},
        {0xFE30, 0xFE6F}, {0xFF00, 0xFF60}, {0xFFE0, 0xFFE6}, {0x1F300, 0x1FAFF}, {0x20000, 0x3FFFD}};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        if (code >= none[i][0] && code <= none[i][1]) {
            return 0;
        }
    }
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        if (code >= wide[i][0] && code <= wide[i][1]) {
            return 2;
        }
    }
    return 1;
}

/* `text` as printed, appended to `out` unless that is NULL; returns its columns. Line breaks and
 * tabs become blanks, other control characters (C1 too: 0x9B starts an escape sequence) '?'. */
static size_t clean(struct kw__out *out, const char *text, enum style style)
{
    size_t n = strlen(text);
    size_t width = 0;
    for (size_t i = 0; i < n;) {
        uint32_t code;
        size_t used = kw__utf8_decode(text + i, n - i, &code);
        const char *shown = text + i;
        size_t bytes = used;
        if (code == '\n' || code == '\r' || code == '\t') {
            shown = " ";
        } else if (code < 0x20 || (code >= 0x7F && code < 0xA0)) {
            shown = "?";
            bytes = 1;
            code = '?';
        } else if (code == 0xFFFD) {
            shown = "\xEF\xBF\xBD";
            bytes = 3;
        } else if (style == MARKDOWN && (code == '|' || code == '\\')) {
            shown = code == '|' ? "\\|" : "\\\\";
            bytes = 2;
            width++;
        } else if (style == MARKDOWN && code == '<') {
            /* Markdown lets HTML through; a cell is text. */
            shown = "&lt;";
            bytes = 4;
            width += 3;
        }
        width += columns_of(code);
        if (out != NULL) {
            kw__out_write(out, shown, bytes);
        }
        i += used;
    }
    return width;
}

size_t kw__text_columns(const char *text)
{
    return clean(NULL, text, TERMINAL);
}

static size_t heading(struct kw__out *out, const struct kw__column *column, enum style style)
{
    size_t width = 0;
    if (style == MARKDOWN && column->group != NULL) {
        width += clean(out, column->group, style) + clean(out, ": ", style);
    }
    width += clean(out, column->title == NULL ? "" : column->title, style);
    if (column->unit != NULL) {
        width += clean(out, " (", style) + clean(out, column->unit, style);
        width += clean(out, ")", style);
    }
    return width;
}

static const char *cell_text(const struct kw__table_row *row, size_t c)
{
    const char *text = c < row->used ? row->cells[c].text : NULL;
    return text == NULL ? ABSENT : text;
}

static void repeat(struct kw__out *out, const char *what, size_t times)
{
    for (size_t i = 0; i < times; i++) {
        kw__out_puts(out, what);
    }
}

static bool same_group(const struct kw__column *a, const struct kw__column *b)
{
    return a->group != NULL && b->group != NULL && strcmp(a->group, b->group) == 0;
}

/* One past the last column of the group that starts at `c`. */
static size_t group_end(const struct kw__table *table, size_t c)
{
    size_t end = c + 1;
    while (end < table->n_columns && same_group(&table->columns[c], &table->columns[end])) {
        end++;
    }
    return end;
}

static size_t span_width(const size_t *width, size_t from, size_t to)
{
    size_t sum = (to - from - 1) * GAP;
    for (size_t c = from; c < to; c++) {
        sum += width[c];
    }
    return sum;
}

static void measure(const struct kw__table *table, enum style style, size_t *width)
{
    for (size_t c = 0; c < table->n_columns; c++) {
        width[c] = heading(NULL, &table->columns[c], style);
        for (size_t r = 0; r < table->n_rows; r++) {
            size_t w = clean(NULL, cell_text(&table->rows[r], c), style);
            width[c] = w > width[c] ? w : width[c];
        }
    }
    for (size_t c = 0; style == TERMINAL && c < table->n_columns;) {
        size_t end = group_end(table, c);
        if (table->columns[c].group != NULL) {
            size_t need = clean(NULL, table->columns[c].group, style);
            size_t have = span_width(width, c, end);
            width[end - 1] += need > have ? need - have : 0;
        }
        c = end;
    }
}

/* ---- rendering ---- */

/* Blanks are owed, not printed, until something follows: no line ends in one. */
struct line {
    struct kw__out *out;
    size_t owed;
};

static void pay(struct line *line)
{
    repeat(line->out, " ", line->owed);
    line->owed = 0;
}

/* Pads what `column` and `row` (NULL: the heading) print to `width`. */
static void put_aligned(struct line *line, const struct kw__column *column, const struct kw__table_row *row,
                        size_t c, size_t width)
{
    const char *text = row == NULL ? NULL : cell_text(row, c);
    size_t have = row == NULL ? heading(NULL, column, TERMINAL) : clean(NULL, text, TERMINAL);
    size_t pad = width - have;
    line->owed += column->align == KW__ALIGN_RIGHT ? pad : 0;
    if (have > 0) {
        pay(line);
    }
    if (row == NULL) {
        (void)heading(line->out, column, TERMINAL);
    } else {
        (void)clean(line->out, text, TERMINAL);
    }
    line->owed += column->align == KW__ALIGN_RIGHT ? 0 : pad;
}

static void put_row(const struct kw__table *table, const struct kw__table_row *row, const size_t *width,
                    struct kw__out *out)
{
    struct line line = {.out = out};
    for (size_t c = 0; c < table->n_columns; c++) {
        line.owed += c == 0 ? 0 : GAP;
        put_aligned(&line, &table->columns[c], row, c, width[c]);
    }
    kw__out_puts(out, "\n");
}

/* Each group's name in the middle of a thin rule as wide as its columns. */
static void put_groups(const struct kw__table *table, const size_t *width, struct kw__out *out)
{
    struct line line = {.out = out};
    for (size_t c = 0; c < table->n_columns;) {
        size_t end = group_end(table, c);
        size_t span = span_width(width, c, end);
        line.owed += c == 0 ? 0 : GAP;
        if (table->columns[c].group == NULL) {
            line.owed += span;
        } else {
            size_t spare = span - clean(NULL, table->columns[c].group, TERMINAL);
            size_t left = spare >= 4 ? spare / 2 - 1 : 0;
            size_t right = spare >= 4 ? spare - spare / 2 - 1 : 0;
            pay(&line);
            repeat(out, THIN, left);
            kw__out_puts(out, left > 0 ? " " : "");
            (void)clean(out, table->columns[c].group, TERMINAL);
            kw__out_puts(out, left > 0 ? " " : "");
            repeat(out, THIN, right);
            line.owed += spare >= 4 ? 0 : spare;
        }
        c = end;
    }
    kw__out_puts(out, "\n");
}

/* True when there is something to render; a failed table fails the output. */
static bool usable(const struct kw__table *table, struct kw__out *out)
{
    out->failed = out->failed || table->failed;
    return !out->failed && table->n_columns > 0;
}

void kw__table_render_text(const struct kw__table *table, struct kw__out *out)
{
    size_t width[KW__TABLE_COLUMNS];
    bool grouped = false;
    if (!usable(table, out)) {
        return;
    }
    measure(table, TERMINAL, width);
    size_t total = span_width(width, 0, table->n_columns);
    for (size_t c = 0; c < table->n_columns; c++) {
        grouped = grouped || table->columns[c].group != NULL;
    }
    if (grouped) {
        put_groups(table, width, out);
    }
    put_row(table, NULL, width, out);
    repeat(out, THIN, total);
    kw__out_puts(out, "\n");
    for (size_t r = 0; r < table->n_rows; r++) {
        if (table->rows[r].rule) {
            repeat(out, THIN, total);
            kw__out_puts(out, "\n");
        }
        put_row(table, &table->rows[r], width, out);
    }
}

void kw__table_render_csv(const struct kw__table *table, struct kw__out *out)
{
    if (!usable(table, out)) {
        return;
    }
    for (size_t c = 0; c < table->n_columns; c++) {
        const struct kw__column *column = &table->columns[c];
        kw__out_puts(out, c == 0 ? "" : ",");
        kw__out_csv(out, column->name != NULL ? column->name : column->title);
    }
    kw__out_puts(out, "\n");
    for (size_t r = 0; r < table->n_rows; r++) {
        const struct kw__table_row *row = &table->rows[r];
        size_t before = out->len;
        for (size_t c = 0; c < table->n_columns; c++) {
            const struct kw__table_cell *cell = c < row->used ? &row->cells[c] : NULL;
            kw__out_puts(out, c == 0 ? "" : ",");
            if (cell != NULL) {
                kw__out_csv(out, cell->machine != NULL ? cell->machine : cell->text);
            }
        }
        /* Readers skip empty lines, and a row must not vanish. */
        kw__out_puts(out, out->len == before ? "\"\"\n" : "\n");
    }
}

/* One Markdown line; `row` NULL is the heading. Padded, so that the source reads as a table. */
static void put_markdown(const struct kw__table *table, const struct kw__table_row *row, const size_t *width,
                         struct kw__out *out)
{
    for (size_t c = 0; c < table->n_columns; c++) {
        const struct kw__column *column = &table->columns[c];
        const char *text = row == NULL ? NULL : cell_text(row, c);
        bool right = column->align == KW__ALIGN_RIGHT;
        size_t have = row == NULL ? heading(NULL, column, MARKDOWN) : clean(NULL, text, MARKDOWN);
        kw__out_puts(out, "| ");
        repeat(out, " ", right ? width[c] - have : 0);
        if (row == NULL) {
            (void)heading(out, column, MARKDOWN);
        } else {
            (void)clean(out, text, MARKDOWN);
        }
        repeat(out, " ", right ? 1 : width[c] - have + 1);
    }
    kw__out_puts(out, "|\n");
}

void kw__table_render_markdown(const struct kw__table *table, struct kw__out *out)
{
    size_t width[KW__TABLE_COLUMNS];
    if (!usable(table, out)) {
        return;
    }
    measure(table, MARKDOWN, width);
    for (size_t c = 0; c < table->n_columns; c++) {
        width[c] = width[c] < 3 ? 3 : width[c]; /* room for "--:" */
    }
    put_markdown(table, NULL, width, out);
    for (size_t c = 0; c < table->n_columns; c++) {
        bool right = table->columns[c].align == KW__ALIGN_RIGHT;
        kw__out_puts(out, "| ");
        repeat(out, "-", width[c] - (right ? 1 : 0));
        kw__out_puts(out, right ? ": " : " ");
    }
    kw__out_puts(out, "|\n");
    for (size_t r = 0; r < table->n_rows; r++) {
        put_markdown(table, &table->rows[r], width, out);
    }
}
