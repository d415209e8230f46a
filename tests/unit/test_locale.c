/* A host program may set any locale: what is read and written has a decimal point all the same. The locale
 * is made by localedef, where there is one. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <setjmp.h>

#include <cmocka.h>

#include <jansson.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/number.h"
#include "kinowatt.h"
#include "predict/validate.h"
#include "report/table.h"
#include "support/folder.h"

static char folder[FOLDER_BYTES];
static bool comma; /* numbers of this program have one */

static int set_up(void **state)
{
    (void)state;
    char path[FOLDER_BYTES + 32];
    int status = 0;
    folder_new(folder);
    snprintf(path, sizeof path, "%s/de_DE.UTF-8", folder);
    pid_t child = fork();
    if (child == 0) {
        (void)freopen("/dev/null", "w", stderr);
        execlp("localedef", "localedef", "-i", "de_DE", "-f", "UTF-8", path, (char *)NULL);
        _exit(127);
    }
    if (child > 0) waitpid(child, &status, 0);
    setenv("LOCPATH", folder, 1);
    comma = setlocale(LC_ALL, "de_DE.UTF-8") && strcmp(localeconv()->decimal_point, ",") == 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    setlocale(LC_ALL, "C");
    folder_remove(folder);
    return 0;
}

static void test_numbers(void **state)
{
    (void)state;
    char text[32];
    double value = 0;
    if (!comma) skip();
    snprintf(text, sizeof text, "%.1f", 1.5);
    assert_string_equal(text, "1,5"); /* what the library must not do */
    assert_int_equal(kw__number_format(text, sizeof text, "%.3f", 1234.5), 8);
    assert_string_equal(text, "1234.500");
    assert_true(kw__number_parse("-1.25e2", &value) && value == -125);
    assert_true(kw__number_parse("1e999", &value) && isinf(value));
    static const char *const none[] = {"",    "1,5",   " 1", "1 ", "0x10", "nan",
                                       "inf", "1.2.3", "e5", "1e", "+",    "--1"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        if (kw__number_parse(none[i], &value)) fail_msg("\"%s\" is taken for %g", none[i], value);
    assert_true(kw__number_round(0.12345678, 6) == 0.123457);
    snprintf(text, sizeof text, "%.1f", 2.5);
    assert_string_equal(text, "2,5"); /* and the program's locale is what it was */
}

static void test_tables(void **state)
{
    (void)state;
    struct kw__table table;
    struct kw__out out;
    char buffer[KW__FORMAT_SIZE];
    if (!comma) skip();
    kw__out_init(&out);
    kw__table_init(&table);
    kw__table_column(&table, &(struct kw__column){.title = "a"});
    kw__table_column(&table, &(struct kw__column){.title = "b"});
    kw__table_row(&table);
    kw__table_number(&table, 1, 0.1);
    kw__table_number(&table, 2, 2.25);
    kw__table_render_csv(&table, &out);
    assert_string_equal(out.data, "a,b\n0.1,2.25\n");
    kw__table_free(&table);
    kw__out_free(&out);
    assert_string_equal(kw__format_exact(buffer, 192.3), "192.3");
    assert_string_equal(kw__format_wh(buffer, 0.11), "0.11 Wh");
}

/* The same bytes as in the C locale. */
static char *predict(kw_method method)
{
    kw_catalog *catalog;
    kw_model *model;
    kw_prediction *prediction;
    kw_request request = KW_REQUEST_INIT;
    kw_predict_options options = KW_PREDICT_OPTIONS_INIT;
    kw_error err;
    char *text;
    options.method = method;
    if (kw_catalog_open(NULL, &catalog, &err) || kw_model_open(catalog, "wan2.1-t2v-1.3b", &model, &err) ||
        kw_predict(catalog, model, &request, &options, &prediction, &err) ||
        kw_prediction_to_json(prediction, &text, &err))
        fail_msg("%s", err.message);
    kw_prediction_free(prediction);
    kw_model_close(model);
    kw_catalog_close(catalog);
    return text;
}

static void test_prediction(void **state)
{
    (void)state;
    if (!comma) skip();
    for (int method = KW_METHOD_KERNEL; method <= KW_METHOD_PAPER; method++) {
        char *here = predict((kw_method)method);
        setlocale(LC_ALL, "C");
        char *there = predict((kw_method)method);
        setlocale(LC_ALL, "de_DE.UTF-8");
        assert_string_equal(here, there);
        free(here);
        free(there);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_prediction),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
