#!/bin/bash
# NVTX ranges become stages: by a program that speaks NVTX's side itself, and by one with NVIDIA's own headers
# where they are.
. "$(dirname "$0")/../e2e/lib.sh"

export KINOWATT_STORE=$base/runs.db
unset NVTX_INJECTION64_PATH
record=("$KINOWATT" record --meter none -o run.json)
read -r -a cc <<<"${CC:-cc} ${CFLAGS-}"
library=$(dirname "$(realpath "$KINOWATT")")/libkinowatt-nvtx.so

# "total a<total ...": each window and the one it is nested in.
expect_windows() # NAMES
{
    local found
    checked=1
    found=$(sed 's/{"name"/\n{"name"/g' run.json | sed -n 's/^{"name": "\([^"]*\)", "parent": \([0-9a-z]*\),.*/\1 \2/p' |
        sed 's/ \(.* \)/_\1/' | awk '{ names[NR - 1] = $1; print $1 ($2 == "null" ? "" : "<" names[$2]) }' | xargs)
    [[ $found == "$1" ]] || problem "windows are: $found"
}

# Tables as NVTX's headers make them (nvtxDetail/nvtxTypes.h): an array of pointers to function pointers for each
# module, of 16 entries.
cat >loader.c <<'EOF'
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
typedef void (*fn)(void);
static fn core[16], core2[16], *core_table[16], *core2_table[16];
static int get_module(int module, fn ***table, unsigned *size)
{
    if (module != 1 && module != 5) return 0;
    *table = module == 1 ? core_table : core2_table;
    *size = 16;
    return 1;
}
static const struct { size_t size; int (*get)(int, fn ***, unsigned *); } callbacks = {sizeof callbacks, get_module};
static const void *get_table(uint32_t id) { return id == 1 ? &callbacks : NULL; }
struct event { uint16_t version, size; uint32_t category; int32_t color_type; uint32_t color; int32_t payload_type, reserved;
    uint64_t payload; int32_t type; const void *message; };
#define CALL(table, id, type) ((type)table[id])
#define PUSH(name) CALL(core, 9, int (*)(const char *))(name)
#define POP() CALL(core, 11, int (*)(void))()
int main(int argc, char **argv)
{
    for (int i = 0; i < 16; i++) core_table[i] = &core[i], core2_table[i] = &core2[i];
    void *library = dlopen(getenv("NVTX_INJECTION64_PATH"), RTLD_LAZY);
    int (*init)(const void *(*)(uint32_t)) = (int (*)(const void *(*)(uint32_t)))dlsym(library, "InitializeInjectionNvtx2");
    if (!init) return printf("%s\n", dlerror()), 9;
    if (!init(get_table)) return 8;
    if (argc > 1) { /* a range an operator, within stages */
        for (int i = 0; i < 3; i++) {
            PUSH("stage");
            for (int k = 0; k < 2000; k++) { PUSH("op"); PUSH("kernel"); POP(); POP(); }
            POP();
        }
        PUSH("last"); POP();
        return 0;
    }
    int levels = PUSH("load") == 0 && PUSH("two words\n") == 1 && POP() == 1 && POP() == 0 && POP() == -1;
    PUSH("a"); PUSH("b"); PUSH("c"); PUSH("d"); PUSH("too deep"); POP(); POP(); POP(); POP(); POP();
    CALL(core, 10, int (*)(const wchar_t *))(L"d\u00e9coder \u65e5");
    POP();
    struct event event = {3, sizeof event, .type = 1, .message = "event"};
    CALL(core, 8, int (*)(const struct event *))(&event);
    POP();
    const void *domain = CALL(core2, 12, const void *(*)(const char *))("domain");
    const void *other = CALL(core2, 13, const void *(*)(const wchar_t *))(L"other");
    event.type = 3;
    event.message = CALL(core2, 10, const void *(*)(const void *, const char *))(domain, "registered");
    CALL(core2, 4, int (*)(const void *, const struct event *))(domain, &event);
    PUSH("inside");
    CALL(core2, 5, int (*)(const void *))(other); /* has none */
    CALL(core2, 5, int (*)(const void *))(domain); /* its own, not the innermost */
    POP();
    uint64_t x = CALL(core, 5, uint64_t (*)(const char *))("x"), y = CALL(core, 6, uint64_t (*)(const wchar_t *))(L"y");
    CALL(core, 7, void (*)(uint64_t))(y);
    event.size = 16; /* older: without a message */
    uint64_t z = CALL(core2, 2, uint64_t (*)(const void *, const struct event *))(domain, &event);
    CALL(core2, 3, void (*)(const void *, uint64_t))(domain, z);
    CALL(core, 7, void (*)(uint64_t))(x);
    CALL(core, 7, void (*)(uint64_t))(x);
    CALL(core, 7, void (*)(uint64_t))(12345);
    return !levels || domain == other || !x || x == y;
}
EOF
run "${cc[@]}" loader.c -o loader -ldl
expect_rc 0
run "${record[@]}" -- ./loader
expect_rc 0
expect_windows 'total load<total two_words_<load a<total b<a c<b d<c décoder_日<total event<total registered<total inside<registered x<total y<x -<x'
expect_err 'warning: marks: 1 ended before one that began in them$'
ok "ranges of all kinds, four levels deep"

run "${record[@]}" -- ./loader many
expect_rc 0
expect_err '^  stage +3 '
expect_err '^    op +500 '
expect_err '^      kernel +500 '
expect_err '^  last +1 '
expect_err 'warning: NVTX: of some levels the first 500 ranges alone are stages'
ok "a range for each operator does not drown the stages"

run env NVTX_INJECTION64_PATH="$library" ./loader
expect_rc 8
NVTX_INJECTION64_PATH=/mine run "${record[@]}" -- sh -c 'echo $NVTX_INJECTION64_PATH'
expect_out '^/mine$'
NVTX_INJECTION64_PATH= run "${record[@]}" -- sh -c 'echo "<$NVTX_INJECTION64_PATH>"'
expect_out '^<>$'
ok "without a record it stays out; a library of the user's own is left"

for include in /usr/local/cuda*/include /usr/include; do
    [[ -e $include/nvtx3/nvToolsExt.h ]] && break
done
if [[ -e $include/nvtx3/nvToolsExt.h ]]; then
    cat >real.c <<'EOF'
#include <nvtx3/nvToolsExt.h>
int main(void)
{
    nvtxDomainHandle_t domain = nvtxDomainCreateA("domain");
    nvtxEventAttributes_t event = {.version = NVTX_VERSION, .size = NVTX_EVENT_ATTRIB_STRUCT_SIZE,
        .messageType = NVTX_MESSAGE_TYPE_REGISTERED, .message.registered = nvtxDomainRegisterStringA(domain, "denoise")};
    nvtxRangePushA("load");
    nvtxRangePop();
    nvtxDomainRangePushEx(domain, &event);
    nvtxRangePushW(L"step");
    nvtxRangePop();
    nvtxDomainRangePop(domain);
    nvtxRangeId_t id = nvtxRangeStartA("decode");
    nvtxMarkA("a mark");
    nvtxRangeEnd(id);
    return 0;
}
EOF
    run "${cc[@]}" real.c -I "$include" -o real -ldl
    expect_rc 0
    run ./real
    expect_rc 0
    run "${record[@]}" -- ./real
    expect_rc 0
    expect_windows 'total load<total denoise<total step<denoise decode<total'
    expect test "$(grep -c warning "$err")" = 0
    ok "NVIDIA's own headers"
else
    skip "NVIDIA's own headers" "they are not installed"
fi
