# kinowatt. Targets a person asks for:
#
#   make                 the libraries and the command, in build/
#   make demo            installs what is missing, builds, runs tools/demo.sh
#   make check           installs what is missing, builds, runs every test; TESTS="wan cli" runs those
#                        whose path holds one of the words
#   make check-sanitize  the same tests under ASan and UBSan, in build-asan/
#   make check-tsan      what has threads, meters, recording and export, under ThreadSanitizer, in build-tsan/
#   make fuzz            tests/fuzz/fuzz_*.c under libFuzzer, FUZZ_SECONDS in all, in build-fuzz/
#   make bench           bench/*.c and bench/*.sh
#   make ops             each operator on the CPU: correctness and speed; WORD=attention: some of them
#   make gates           format, banned functions, symbols, lengths;  make format  mends the format
#   make install         below prefix (/usr/local) and DESTDIR;  make uninstall
#   make clean
#
# CC, CXX, CFLAGS, CPPFLAGS, LDFLAGS, prefix, DESTDIR are the user's. V=1 shows the commands. A change of
# flags or of prefix rebuilds what it touches.

BUILD := build
CFLAGS ?= -O2 -g
prefix ?= /usr/local
FUZZ_SECONDS ?= 60
PKG_CONFIG ?= pkg-config

# ---- What there is ---------------------------------------------------------------------------

VERSION := $(shell sed -n 's/^\#define KW_VERSION_[MP][A-Z]* //p' include/kinowatt.h 2>/dev/null | paste -sd.)
# Raised when a program built against the older library would no longer run.
SOVERSION := 0

LIB_SRC := $(wildcard $(addsuffix /*.c,$(addprefix src/,base model graph hardware predict meter stats \
    report store record sweep engine engine/cpu text video)))
# sentencepiece is C++: one small file.
LIB_SRC += $(wildcard src/text/*.cc)
CMD_SRC := $(wildcard src/cli/*.c)
UNIT_SRC := $(wildcard tests/unit/test_*.c)
# Shared libraries that stand in for a driver's; they are no part of the test programs.
FAKE_SRC := $(wildcard tests/support/fake_*.c)
SUPPORT_SRC := $(filter-out $(FAKE_SRC),$(wildcard tests/support/*.c))
FUZZ_SRC := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC := $(wildcard bench/*.c)
SCRIPTS := $(filter-out %lib.sh,$(wildcard tests/e2e/*.sh tests/golden/*.sh))

objects = $(addprefix $(BUILD)/,$(addsuffix .o,$(basename $(1))))
programs = $(patsubst %.c,$(BUILD)/%,$(1))

STATIC := $(BUILD)/libkinowatt.a
SHARED := $(BUILD)/libkinowatt.so.$(VERSION)
COMMAND := $(BUILD)/kinowatt
# Loaded by NVTX into programs that are recorded.
NVTX := $(BUILD)/libkinowatt-nvtx.so
UNIT := $(call programs,$(UNIT_SRC))
FAKES := $(patsubst %.c,$(BUILD)/%.so,$(FAKE_SRC))
FUZZ := $(call programs,$(FUZZ_SRC))
BENCH := $(call programs,$(BENCH_SRC))

# ---- How it is compiled ----------------------------------------------------------------------

PACKAGES := jansson lapacke sqlite3
PACKAGE_CFLAGS := $(shell $(PKG_CONFIG) --cflags $(PACKAGES) 2>/dev/null)
PACKAGE_LIBS := $(shell $(PKG_CONFIG) --libs $(PACKAGES) 2>/dev/null)
CMOCKA_LIBS = $(shell $(PKG_CONFIG) --libs cmocka)
# sentencepiece.pc also names its trainer, which is not needed.
# At run time it does not say its version.
SENTENCEPIECE_VERSION := $(shell $(PKG_CONFIG) --modversion sentencepiece 2>/dev/null || echo unknown)
# oneDNN has no pkg-config file in Debian. Its threads are OpenMP's, which our kernels share.
OPENMP := $(shell echo 'int main(void) { return 0; }' | $(CC) -fopenmp -x c -o /dev/null - 2>/dev/null && \
    echo -fopenmp)
SYSTEM_LIBS := -lsentencepiece -lstdc++ -ldnnl $(OPENMP) -pthread -lm
# Writing mp4 needs FFmpeg's headers here and its libraries when it runs; without either it is said.
LIBAV := libavformat libavcodec libavutil
LIBAV_CFLAGS := $(if $(shell $(PKG_CONFIG) --exists $(LIBAV) && echo yes),-DKW_HAVE_LIBAV $(shell \
    $(PKG_CONFIG) --cflags $(LIBAV)))

# make sets SANITIZE for check-sanitize and fuzz.
SANITIZE :=
WARNINGS := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wundef
COMPILE = $(CC) -std=c11 -D_POSIX_C_SOURCE=200809L -DKW_DATADIR='"$(prefix)/share/kinowatt"' \
    -DKW_SENTENCEPIECE_VERSION='"$(SENTENCEPIECE_VERSION)"' -Iinclude -Isrc \
    $(PACKAGE_CFLAGS) $(CPPFLAGS) $(WARNINGS) -fPIC -fvisibility=hidden -pthread $(CFLAGS) $(SANITIZE)
# The same for C++, less what C++ does not know; vptr checks would need the C++ runtime of the sanitizer.
COMPILE_CXX = $(CXX) -std=c++17 -Isrc $(CPPFLAGS) -Wall -Wextra -Wshadow -Wpointer-arith -fPIC \
    -fvisibility=hidden -pthread $(CFLAGS) $(SANITIZE) $(if $(SANITIZE),-fno-sanitize=vptr)
LINK = $(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS)
LIBS = $(PACKAGE_LIBS) $(SYSTEM_LIBS)

Q := $(if $(V),,@)
say = $(if $(V),,@printf '  %-5s %s\n' $(1) $(2))
# Writes the file only when its text changes, so that what depends on it is rebuilt just then.
stamp = @mkdir -p $(BUILD); printf '%s\n' "$$TEXT" | cmp -s - $@ || printf '%s\n' "$$TEXT" >$@

# Targets that install packages first, or build elsewhere, call make again: pkg-config is asked when
# make starts. They use every core unless told otherwise.
AGAIN = +@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: all demo check check-sanitize check-tsan run-tests fuzz run-fuzz bench ops gates format stage install \
    uninstall clean FORCE
.DELETE_ON_ERROR:
.SECONDARY:
all: $(STATIC) $(BUILD)/libkinowatt.so $(COMMAND) $(NVTX)

$(BUILD)/flags: export TEXT = $(COMPILE) $(LIBAV_CFLAGS) / $(COMPILE_CXX) / $(LINK) $(LIBS)
$(BUILD)/flags: FORCE
	@$(PKG_CONFIG) --exists --print-errors $(PACKAGES) || { echo "run tools/deps.sh first" >&2; exit 1; }
	@echo '#include <dnnl.h>' | $(CC) $(CPPFLAGS) -E -x c - >/dev/null 2>&1 || \
	    { echo "oneDNN (libdnnl-dev) is missing: run tools/deps.sh first" >&2; exit 1; }
	$(stamp)

# A source that is gone must leave the libraries too.
$(BUILD)/sources: export TEXT = $(LIB_SRC) $(CMD_SRC)
$(BUILD)/sources: FORCE
	$(stamp)

$(BUILD)/%.o: %.c $(BUILD)/flags
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) $(EXTRA) -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.cc $(BUILD)/flags
	$(call say,CXX,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE_CXX) -MMD -MP -c -o $@ $<

$(BUILD)/src/video/%.o: EXTRA = $(LIBAV_CFLAGS)
# Kernels: vector code, sums in any order. No assumption about NaN or infinity.
$(BUILD)/src/engine/cpu/%.o: EXTRA = -O3 -fno-math-errno -fno-trapping-math -fno-signed-zeros \
    -fassociative-math -ffp-contract=fast $(OPENMP)

-include $(patsubst %.o,%.d,$(call objects,$(LIB_SRC) $(CMD_SRC) $(UNIT_SRC) $(SUPPORT_SRC) $(FUZZ_SRC) \
    $(BENCH_SRC) src/nvtx/nvtx.c tests/fuzz/replay.c))

$(STATIC): $(call objects,$(LIB_SRC)) $(BUILD)/sources
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $(filter %.o,$^)

$(SHARED): $(call objects,$(LIB_SRC)) $(BUILD)/sources
	$(call say,LD,$@)
	$(Q)$(LINK) -shared -Wl,-soname,libkinowatt.so.$(SOVERSION) $(if $(SANITIZE),,-Wl$(comma)-z$(comma)defs) \
	    -o $@ $(filter %.o,$^) $(LIBS)
comma := ,

$(BUILD)/libkinowatt.so: $(SHARED)
	$(Q)ln -sf $(<F) $(BUILD)/libkinowatt.so.$(SOVERSION) && ln -sf libkinowatt.so.$(SOVERSION) $@

$(COMMAND): $(call objects,$(CMD_SRC)) $(STATIC) $(BUILD)/sources
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $(filter %.o %.a,$^) $(LIBS)

$(NVTX): $(call objects,src/nvtx/nvtx.c src/record/send.c) src/nvtx/exports
	$(call say,LD,$@)
	$(Q)$(LINK) -shared -pthread -Wl,--version-script=src/nvtx/exports -o $@ $(filter %.o,$^)

# ---- The main job ----------------------------------------------------------------------------

demo:
	@tools/deps.sh
	$(AGAIN) all
	@KINOWATT=$(abspath $(COMMAND)) tools/demo.sh

# ---- Tests -----------------------------------------------------------------------------------

$(BUILD)/tests/%.o: EXTRA = -Itests
$(BUILD)/tests/support/decode.o: EXTRA = -Itests $(LIBAV_CFLAGS)

# Unit tests: one cmocka program a file, with everything in tests/support.
$(UNIT): %: %.o $(call objects,$(SUPPORT_SRC)) $(STATIC)
	$(call say,LD,$@)
	$(Q)$(LINK) $(WRAP) -o $@ $^ $(CMOCKA_LIBS) $(LIBS)

# Opened by the tests when they run.
$(UNIT): | $(FAKES)
$(FAKES): $(BUILD)/%.so: %.c $(wildcard tests/support/fake_*) $(BUILD)/flags
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(COMPILE) -fvisibility=default -Itests $(LDFLAGS) -shared -o $@ $<

# The test that makes each allocation fail in turn defines __wrap_malloc and its kin. Calls inside
# shared libraries are not wrapped; jansson's go through json_set_alloc_funcs.
$(BUILD)/tests/unit/test_alloc: WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=free,--wrap=strdup,--wrap=strndup
$(BUILD)/tests/unit/test_quiet: WRAP = -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=posix_memalign

# Fuzz targets: plain programs that replay tests/fuzz/corpus/<target>, or with FUZZING on libFuzzer.
ifdef FUZZING
FUZZ_LINK := -fsanitize=fuzzer
else
FUZZ_MAIN := $(BUILD)/tests/fuzz/replay.o
$(BUILD)/tests/fuzz/%.o: EXTRA = -Itests -DKW_FUZZ_REPLAY
endif
$(FUZZ): %: %.o $(FUZZ_MAIN) $(STATIC)
	$(call say,LD,$@)
	$(Q)$(LINK) $(FUZZ_LINK) -o $@ $^ $(LIBS)

# An installed tree for the tests that need one.
stage: all
	@rm -rf $(BUILD)/stage
	@$(call install_into,$(BUILD)/stage)

check:
	@tools/deps.sh
	$(AGAIN) run-tests

# (on a CPU with AVX2 alone a test takes minutes)
check-sanitize: export TEST_TIMEOUT ?= 1200
check-sanitize:
	@tools/deps.sh
	$(AGAIN) run-tests BUILD=build-asan CFLAGS='-O1 -g' \
	    SANITIZE='-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'

# The threads of meters and of recording under ThreadSanitizer.
check-tsan:
	@tools/deps.sh
	$(AGAIN) run-tests BUILD=build-tsan CFLAGS='-O1 -g' SANITIZE='-fsanitize=thread' FUZZ_SRC= SCRIPTS=tests/e2e/import.sh \
	    UNIT_SRC='$(wildcard $(addprefix tests/unit/test_,meter.c nvml.c rapl.c marks.c record.c))'

run-tests: all stage $(UNIT) $(FUZZ)
	@BUILD=$(BUILD) PREFIX=$(prefix) CC='$(CC)' CFLAGS='$(CFLAGS) $(SANITIZE) $(LDFLAGS)' TESTS='$(TESTS)' \
	    tests/run.sh $(SCRIPTS) $(UNIT) $(FUZZ)

fuzz:
	@command -v clang >/dev/null || { echo "make fuzz needs clang: tools/deps.sh --dev" >&2; exit 1; }
	$(AGAIN) run-fuzz BUILD=build-fuzz CC=clang CXX=clang++ CFLAGS='-O1 -g' FUZZING=1 \
	    SANITIZE='-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer'

run-fuzz: $(FUZZ)
	@tests/fuzz/run.sh $(BUILD) $(FUZZ_SECONDS) $(FUZZ)

bench: $(COMMAND) $(BENCH)
	@export KINOWATT=$(abspath $(COMMAND)) KINOWATT_DATA=$(abspath data); \
	    for b in $(BENCH) $(wildcard bench/*.sh); do echo "== $$b"; $$b || exit 1; done

ops: $(BUILD)/bench/ops
	@$< $(WORD)

# The cases of the operators are those of their test.
$(BUILD)/bench/%.o: EXTRA = -Itests
$(BENCH): %: %.o $(call objects,$(SUPPORT_SRC)) $(STATIC)
	$(call say,LD,$@)
	$(Q)$(LINK) -o $@ $^ $(CMOCKA_LIBS) $(LIBS)

gates: all
	@tools/gates.sh $(BUILD)

format:
	@git ls-files -co --exclude-standard '*.c' '*.h' '*.cc' | xargs -r clang-format -i

# ---- Installing ------------------------------------------------------------------------------

# Everything below $(1)$(prefix). The data tree is replaced, so no file of an older version stays.
define install_into
set -e; root=$(1)$(prefix); \
install -d $$root/bin $$root/include $$root/lib/pkgconfig $$root/share/man/man1 $$root/share/doc/kinowatt; \
install -m 755 $(COMMAND) $$root/bin/; \
install -m 644 include/*.h $$root/include/; \
install -m 644 $(STATIC) $$root/lib/; \
install -m 755 $(SHARED) $(NVTX) $$root/lib/; \
ln -sf $(notdir $(SHARED)) $$root/lib/libkinowatt.so.$(SOVERSION); \
ln -sf libkinowatt.so.$(SOVERSION) $$root/lib/libkinowatt.so; \
sed -e 's|@prefix@|$(prefix)|' -e 's|@version@|$(VERSION)|' -e 's|@requires@|$(PACKAGES)|' \
    -e 's|@libs@|$(SYSTEM_LIBS)|' kinowatt.pc.in >$$root/lib/pkgconfig/kinowatt.pc; \
chmod 644 $$root/lib/pkgconfig/kinowatt.pc; \
for page in $(wildcard man/*.1); do install -m 644 $$page $$root/share/man/man1/; done; \
install -m 644 $(wildcard LICENSE README.md CHANGELOG.md examples/*.c) $$root/share/doc/kinowatt/; \
rm -rf $$root/share/kinowatt; \
find data -type f -exec sh -c 'install -D -m 644 "$$2" "$$1/share/kinowatt/$${2#data/}"' _ $$root {} \; ; \
install -D -m 644 python/kinowatt.py $$root/share/kinowatt/python/kinowatt.py
endef

install: all
	@$(call install_into,$(DESTDIR))
	@echo "installed below $(DESTDIR)$(prefix)$(if $(DESTDIR),,; run ldconfig if programs link the shared library)"

uninstall:
	cd $(DESTDIR)$(prefix) && rm -rf bin/kinowatt lib/libkinowatt.a lib/libkinowatt.so* lib/$(notdir $(NVTX)) \
	    lib/pkgconfig/kinowatt.pc share/kinowatt share/doc/kinowatt \
	    $(patsubst include/%.h,include/%.h,$(wildcard include/*.h)) \
	    $(patsubst man/%,share/man/man1/%,$(wildcard man/*.1))

clean:
	rm -rf build build-asan build-tsan build-fuzz
