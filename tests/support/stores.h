/* What the tests of the store share: a folder with a store in it, and a run with every kind of value. */
#ifndef KW_TESTS_STORES_H
#define KW_TESTS_STORES_H

#include "store/store.h"
#include "support/folder.h"

/* Of the test that runs: its folder, and the store's file, which is not there at first. */
extern char folder[FOLDER_BYTES], path[FOLDER_BYTES + 32];
int make_folder(void **state);
int remove_folder(void **state);
#define IN_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)

struct kw__store *open_store(enum kw__store_mode mode);

/* One figure by SQL, on a connection of its own; NULL is NaN. */
double ask(const char *sql);
void execute(const char *sql);

/* Four windows, two channels, three details, three settings. Windows, channels and details are of all
 * runs in common. */
struct kw__run *make_run(void);

#endif
