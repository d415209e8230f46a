/* tensors.h is the manual. */
#include "support/tensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct kw__tensor *find_tensor(const struct kw__program *program, const char *component,
                                      const char *name, bool *seen)
{
    struct kw__tensor *found = NULL;
    for (size_t i = 0; i < program->num_tensors; i++) {
        struct kw__tensor *t = &program->tensors[i];
        if (strcmp(t->component, component) != 0 || strcmp(t->name, name) != 0) continue;
        if (found) fail_msg("%s is declared twice", name);
        found = t;
        seen[i] = true;
    }
    return found;
}

static void expect_tensor(const struct kw__program *program, const char *component, const char *name,
                          const char *shape, bool *seen)
{
    const struct kw__tensor *t = find_tensor(program, component, name, seen);
    char declared[128] = "";
    if (!t) fail_msg("%s of the %s is not declared", name, component);
    for (int i = 0; i < t->ndim; i++) {
        size_t used = strlen(declared);
        snprintf(declared + used, sizeof declared - used, "%s%" PRId64, i ? " " : "", t->dim[i]);
    }
    if (strcmp(declared, shape) != 0) fail_msg("%s is %s, not %s", name, declared, shape);
}

/* Marks them in `seen`; returns how many there are. */
static size_t expect_list(const struct kw__program *program, const char *component, const char *path,
                          bool *seen)
{
    char line[256];
    size_t count = 0;
    FILE *file = fopen(path, "r");
    if (!file) fail_msg("cannot read %s", path);
    while (fgets(line, sizeof line, file)) {
        if (line[0] == '#') continue;
        line[strcspn(line, "\n")] = '\0';
        char none[] = "", *shape = strchr(line, ' '), *open = strchr(line, '['), *rest = strchr(line, ']');
        if (shape)
            *shape++ = '\0';
        else
            shape = none; /* a single number */
        int first = 0, last = 0;
        if (open) assert_int_equal(sscanf(open, "[%d-%d]", &first, &last), 2);
        for (int i = first; i <= last; i++, count++) {
            char name[256];
            if (open)
                snprintf(name, sizeof name, "%.*s%d%s", (int)(open - line), line, i, rest + 1);
            else
                snprintf(name, sizeof name, "%s", line);
            expect_tensor(program, component, name, shape, seen);
        }
    }
    fclose(file);
    return count;
}

void tensors_expect(const struct kw__program *program, const struct tensor_list *lists, size_t num_lists)
{
    bool *seen = calloc(program->num_tensors, sizeof *seen);
    assert_non_null(seen);
    for (size_t i = 0; i < num_lists; i++)
        assert_int_equal(expect_list(program, lists[i].component, lists[i].path, seen), lists[i].count);
    for (size_t i = 0; i < program->num_tensors; i++)
        if (!seen[i])
            fail_msg("the checkpoint has no %s.%s", program->tensors[i].component, program->tensors[i].name);
    free(seen);
}
