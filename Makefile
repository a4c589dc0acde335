# kvfs: one Makefile for everything.  `make help` lists what it does.
# Output goes to build/<variant>/; variants: plain, asan, tsan, cov, fuzz (`VARIANT=asan make` or the check-asan target).
# CC, CFLAGS, LDFLAGS, PREFIX and DESTDIR may be set as everywhere; WERROR=1 makes a warning an error.

VARIANT ?= plain
BUILD ?= build
B := $(BUILD)/$(VARIANT)
PREFIX ?= /usr/local
LIBDIR ?= $(PREFIX)/lib
VERSION := $(shell sed -n 's/^.define KVFS_VERSION "\(.*\)"/\1/p' include/kvfs.h)

ifeq ($(origin CC),default)
CC := $(if $(filter fuzz,$(VARIANT)),clang,gcc)
endif
ifeq ($(filter plain asan tsan cov fuzz,$(VARIANT)),)
$(error VARIANT=$(VARIANT): there are plain, asan, tsan, cov and fuzz)
endif
HARDEN ?= -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fstack-clash-protection
CFLAGS_plain := -O2 -g $(HARDEN)
CFLAGS_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_tsan := -O1 -g -fno-omit-frame-pointer -fsanitize=thread
CFLAGS_cov := -O0 -g --coverage
CFLAGS_fuzz := -O1 -g -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS ?= $(CFLAGS_$(VARIANT))
LDFLAGS ?= -Wl,-z,relro,-z,now -Wl,--as-needed
# A warning is an error in the plain variant only: where it optimises less, the compiler guesses worse.
WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes $(if $(WERROR),$(if $(filter plain,$(VARIANT)),-Werror))
# One object serves program, archive and shared library, so everything is -fPIC; interposition inside the library is not wanted.
KV_CFLAGS := -std=gnu11 -fPIC -fno-semantic-interposition -pthread $(WARN)
KV_CPPFLAGS := -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Iinclude
# `make V=1` shows whole commands.
quiet = $(if $(V),,@echo "  $(1) $@";)
# Asked only when a rule needs it: pkg-config may be what `make deps` is about to install.
PKG_CONFIG ?= pkg-config
# gdbm, lmdb, sqlite3 and jansson are for `kvfs import --from`. nettle, which libarchive uses too: names of long typed keys, sums of sources, Base64.
PKGS_kvfs := fuse3 libarchive jansson nettle sqlite3
INC_kvfs = $(shell $(PKG_CONFIG) --cflags $(PKGS_kvfs))
LIBS_kvfs = $(shell $(PKG_CONFIG) --libs $(PKGS_kvfs)) -lgdbm
INC_tests/unit := -Ilib -Ikvfs
INC_tests/crash := -Itests/unit
INC_tests/fuzz := -Ilib -Ikvfs
INC_tests/bench = $(shell $(PKG_CONFIG) --cflags fuse3)
# The extension uses the limited API only: any CPython from 3.11 on loads what any one has built.
PYTHON ?= python3
INC_lib/python/_kvfs = -isystem $(shell $(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')
INC = $(INC_$(patsubst %/,%,$(dir $<))) $(if $(filter tests/%,$<),-Itests/support)
LIBS := -llmdb -lnettle -pthread

objects = $(patsubst %.c,$B/obj/%.o,$(1))
programs = $(patsubst %.c,$B/%,$(1))
LIB_SRC := $(sort $(wildcard lib/*.c))
KVFS_SRC := $(sort $(wildcard kvfs/*.c))
PYTHON_SRC := $(sort $(wildcard lib/python/_kvfs/*.c))
PYTHON_FILES := $(sort $(wildcard lib/python/kvfs/*.py lib/python/kvfs/*.pyi lib/python/kvfs/py.typed))
PYTHON_PKG := $B/python/kvfs
UNIT := $(call programs,$(sort $(wildcard tests/unit/*_test.c)))
API := $(call programs,$(sort $(wildcard tests/api/*_test.c)))
CRASH := $(call programs,$(sort $(wildcard tests/crash/*_test.c)))
CRASH_ALL := $(CRASH) $B/tests/crash/record.so
CRASH_SRC := $(filter-out %_test.c,$(wildcard tests/crash/*.c))
FUZZ := $(call programs,$(sort $(wildcard tests/fuzz/*_test.c)))
TARGETS := $(call programs,$(sort $(wildcard tests/fuzz/*_fuzz.c)))
FUZZ_SRC := $(filter-out %_test.c %_fuzz.c %/replay.c,$(wildcard tests/fuzz/*.c))
# A program each: what the CLI and mount scripts call, and benchmarks.
HELPERS := $(call programs,$(sort $(wildcard tests/cli/*.c tests/mount/*.c)))
BENCH := $(call programs,$(sort $(wildcard tests/bench/*.c)))
STORES := $(addprefix $B/tests/bench/stores/,kvfs lmdb rocksdb wiredtiger)
SUPPORT_SRC := $(wildcard tests/support/*.c) $(filter-out %_test.c,$(wildcard tests/unit/*.c tests/api/*.c))
SOURCES := $(sort $(wildcard include/*.h lib/*.[ch] lib/python/_kvfs/*.[ch] kvfs/*.[ch] tests/*/*.[ch] tests/bench/stores/*.[ch]))

RUN_TESTS := BUILD=$B tests/support/run
# What mounts, fills disks and plays other users has to be root.
AS_ROOT = $(if $(filter-out 0,$(shell id -u)),$(if $(shell command -v sudo),sudo -E ))
# The targets that build by themselves use all processors unless told otherwise.
PARALLEL = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))
MAKE_SELF = +@$(MAKE) --no-print-directory $(if $(V),,-s) $(PARALLEL)

.PHONY: all tests python python-here run mount-here check check-unit check-api check-cli check-mount check-python check-crash check-fuzz fuzz check-asan check-tsan check-valgrind cov bench \
	bench-stores bench-mount format format-check lint install uninstall dist clean deps deps-python deps-check deps-lint deps-bench help
.DELETE_ON_ERROR:
.SECONDARY:

all: $B/libkvfs.a $B/libkvfs.so $B/kvfs ## build the library and the program (the default)

$B/obj/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call quiet,CC  )$(CC) $(KV_CPPFLAGS) $(INC) $(CPPFLAGS) $(KV_CFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$B/libkvfs.a: $(call objects,$(LIB_SRC))
	$(call quiet,AR  )rm -f $@; $(AR) rcs $@ $^

$B/libkvfs.so.0: $(call objects,$(LIB_SRC)) lib/kvfs.map
	$(call quiet,LINK)$(CC) $(CFLAGS) -shared -Wl,-z,defs -Wl,-soname,libkvfs.so.0 -Wl,--version-script=lib/kvfs.map $(LDFLAGS) -o $@ $(filter %.o,$^) $(LIBS)

$B/libkvfs.so: $B/libkvfs.so.0
	@ln -sf libkvfs.so.0 $@

$B/kvfs: $(call objects,$(KVFS_SRC)) $B/libkvfs.a
	$(call quiet,LINK)$(CC) $(CFLAGS) -pie $(LDFLAGS) -o $@ $^ $(LIBS_kvfs) $(LIBS)

# ---- the Python package: import it with PYTHONPATH=build/plain/python, or install it with pip (lib/python/pyproject.toml)

python: deps-python ## install what it needs, build the Python package, in build/plain/python
	$(MAKE_SELF) python-here
python-here: $(PYTHON_PKG)/_kvfs.abi3.so $(patsubst lib/python/%,$B/python/%,$(PYTHON_FILES))

$(PYTHON_PKG)/_kvfs.abi3.so: $(call objects,$(PYTHON_SRC)) $B/libkvfs.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) -shared $(LDFLAGS) -Wl,--exclude-libs,ALL -o $@ $^ $(LIBS)
$B/python/%: lib/python/%
	@mkdir -p $(@D)
	@cp $< $@

# ---- tests

tests: all $(UNIT) $(API) $(FUZZ) $(TARGETS) $(HELPERS) $(if $(filter plain,$(VARIANT)),$(CRASH_ALL) python-here)

$B/tests/libsupport.a: $(call objects,$(SUPPORT_SRC))
	@mkdir -p $(@D)
	$(call quiet,AR  )rm -f $@; $(AR) rcs $@ $^

# The API tests of the plain variant use the shared library, so that what the symbol map exports is tested too.
API_LIB := $(if $(filter plain,$(VARIANT)),$B/libkvfs.so,$B/libkvfs.a)
$(API): $(API_LIB)
$(UNIT) $(HELPERS) $(BENCH): $B/libkvfs.a
$B/tests/bench/nothing_fs: LIBS += $(shell $(PKG_CONFIG) --libs fuse3)
$(UNIT) $(API) $(HELPERS) $(BENCH): $B/tests/%: $B/obj/tests/%.o $B/tests/libsupport.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) -pie $(LDFLAGS) -Wl,-rpath,'$$ORIGIN/../..' -o $@ $(filter %.o,$^) $(filter %support.a,$^) \
		$(filter %/libkvfs.a %/libkvfs.so,$^) -lcmocka -lm $(LIBS)

# One workload over each store that is used from C.
LIBS_rocksdb := -lrocksdb
LIBS_wiredtiger := -lwiredtiger
$(STORES): $B/tests/bench/stores/%: $B/obj/tests/bench/stores/%.o $B/obj/tests/bench/stores/main.o $B/libkvfs.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) -pie $(LDFLAGS) -o $@ $^ $(LIBS_$*) $(LIBS)

# The recorder takes the place of C library calls: in the programs that it is linked with, and, preloaded, in kvfs.
$(CRASH): $B/tests/crash/%: $B/obj/tests/crash/%.o $(call objects,$(CRASH_SRC)) $B/tests/libsupport.a $B/libkvfs.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) -pie $(LDFLAGS) -o $@ $^ -lcmocka -lm $(LIBS)
$B/tests/crash/record.so: $B/obj/tests/crash/record.o $B/obj/tests/crash/fault.o
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) -shared $(LDFLAGS) -o $@ $^ -pthread

$(FUZZ): $B/tests/fuzz/%: $B/obj/tests/fuzz/%.o $(call objects,$(FUZZ_SRC)) $B/tests/libsupport.a $B/libkvfs.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) -pie $(LDFLAGS) -o $@ $^ -lcmocka $(LIBS)
# A fuzzer's target: with libFuzzer in the fuzz variant, with a main() that replays files in all others.
$(TARGETS): $B/tests/fuzz/%: $B/obj/tests/fuzz/%.o $(call objects,$(FUZZ_SRC) $(if $(filter fuzz,$(VARIANT)),,tests/fuzz/replay.c)) \
		$B/tests/libsupport.a $B/libkvfs.a
	@mkdir -p $(@D)
	$(call quiet,LINK)$(CC) $(CFLAGS) $(if $(filter fuzz,$(VARIANT)),-fsanitize=fuzzer) -pie $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) -lcmocka -lm $(LIBS)
# The whole program in one: its main() is called, and exit() of a command comes back.
PROGRAM := $B/obj/tests/fuzz/kvfs_main.o $(call objects,$(filter-out %/main.c,$(KVFS_SRC)))
$B/obj/tests/fuzz/kvfs_main.o: $B/obj/kvfs/main.o
	@mkdir -p $(@D)
	@objcopy --redefine-sym main=kvfs_main $< $@
$B/tests/fuzz/key_fuzz $B/tests/fuzz/cli_fuzz: $(PROGRAM)
$B/tests/fuzz/key_fuzz $B/tests/fuzz/cli_fuzz: LIBS += $(LIBS_kvfs)
$B/tests/fuzz/cli_fuzz: LIBS += -Wl,--wrap=exit,--wrap=fclose

# What of the program is tested without a mount.
$B/tests/unit/locks_test: $B/obj/kvfs/locks.o
$B/tests/unit/sort_test: $B/obj/kvfs/sort.o

check: deps-check ## install what the tests need, build, and run all of them (as root, by sudo)
	$(MAKE_SELF) tests
	@$(AS_ROOT)$(RUN_TESTS) unit api cli mount python crash fuzz
check-unit: ## one suite
	$(MAKE_SELF) $(UNIT)
	@$(RUN_TESTS) unit
check-api: ## one suite
	$(MAKE_SELF) $(API)
	@$(RUN_TESTS) api
check-crash: ## one suite: power cuts, killed programs, failing disks (tests/README.md has the long forms)
	$(MAKE_SELF) $B/kvfs $(CRASH_ALL)
	@$(RUN_TESTS) crash
check-python: all python-here ## one suite
	@$(RUN_TESTS) python
check-fuzz: ## one suite: stores with damaged and crafted pages (tests/README.md has the long forms)
	$(MAKE_SELF) $B/kvfs $(FUZZ) $(TARGETS)
	@$(RUN_TESTS) fuzz
check-cli check-mount: check-%: all $(HELPERS) ## one suite
	@$(AS_ROOT)$(RUN_TESTS) $*
check-asan: ## unit, api, CLI and fuzz tests under AddressSanitizer and UBSan
	$(MAKE_SELF) VARIANT=asan tests
	@BUILD=$(BUILD)/asan tests/support/run unit api cli fuzz
check-tsan: ## the unit and api tests that have threads, under ThreadSanitizer
	$(MAKE_SELF) VARIANT=tsan $(patsubst %.c,$(BUILD)/tsan/%,$(shell grep -l pthread_create tests/unit/*_test.c tests/api/*_test.c))
	@THREADED=1 BUILD=$(BUILD)/tsan tests/support/run unit api
check-valgrind: deps-lint ## unit and api tests under valgrind
	$(MAKE_SELF) tests
	@WRAP="valgrind -q --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite" $(RUN_TESTS) unit api
cov: ## lines covered by the unit, api and CLI tests, file by file
	$(MAKE_SELF) VARIANT=cov tests
	@find $(BUILD)/cov -name '*.gcda' -delete; BUILD=$(BUILD)/cov tests/support/run unit api cli
	@tests/support/coverage $(BUILD)/cov $(LIB_SRC) $(KVFS_SRC)
# Needs clang, which brings libFuzzer.  What one run has learned the next one begins with.
FUZZ_S ?= 60
FUZZ_DIR ?= $(BUILD)/fuzz/found
fuzz: ## each target of tests/fuzz for FUZZ_S seconds with libFuzzer (ONLY=decode: that one); corpus and crashes go to FUZZ_DIR
	$(MAKE_SELF) VARIANT=fuzz $(patsubst $B/%,$(BUILD)/fuzz/%,$(TARGETS))
	@BUILD=$(BUILD)/fuzz tests/fuzz/run $(FUZZ_DIR) $(FUZZ_S) $(ONLY)
BENCH_DIR ?= $B/bench
bench: ## build the benchmarks; run call_bench and mount_bench in BENCH_DIR (the others say in their source how)
	$(MAKE_SELF) all $(BENCH)
	@status=0; for b in call_bench mount_bench; do \
		rm -rf $(BENCH_DIR); $B/tests/bench/$$b $(BENCH_DIR) || status=1; done; rm -rf $(BENCH_DIR); exit $$status
BENCH_OUT ?= $B/results
BENCH_ARGS ?=
# Debian's modules are Debian's python's.
BENCH_PYTHON := PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$B/python:tests/bench/stores /usr/bin/python3
bench-stores: deps-bench ## kvfs beside other stores, in BENCH_DIR; CSV and charts to BENCH_OUT (BENCH_ARGS='--n 1000000 --seconds 60': more)
	$(MAKE_SELF) all python-here $(STORES)
	@rm -rf $(BENCH_DIR); $(BENCH_PYTHON) tests/bench/stores/stores.py --work $(BENCH_DIR) --bin $B/tests/bench/stores --out $(BENCH_OUT) $(BENCH_ARGS)
	@$(BENCH_PYTHON) -c 'import machine; print("#", machine.words("."))' > $(BENCH_OUT)/calls.txt
	@$(BENCH_PYTHON) tests/bench/python_bench.py $(BENCH_DIR) 20000 | tee -a $(BENCH_OUT)/calls.txt
bench-mount: deps-check ## a mount beside the file system beneath BENCH_DIR and one that does nothing; CSV and chart to BENCH_OUT
	$(MAKE_SELF) all $(BENCH)
	@rm -rf $(BENCH_DIR); mkdir -p $(BENCH_OUT); $(BENCH_PYTHON) tests/bench/mount_chart.py --work $(BENCH_DIR) --bin $B/tests/bench/mount_bench --out $(BENCH_OUT) $(BENCH_ARGS)

# ---- source

format: ## clang-format all sources in place
	clang-format -i $(SOURCES)
format-check: ## fail if clang-format would change something
	clang-format --dry-run -Werror $(SOURCES)
TIDY := $(patsubst %.c,$B/tidy/%,$(LIB_SRC) $(PYTHON_SRC) $(KVFS_SRC))
lint: ## layering, manuals, units, cppcheck and clang-tidy, without a single warning
	+@bad=0; for l in layers manual units; do tests/lint/$$l || bad=1; done; \
	cppcheck -q -j2 --error-exitcode=1 --inline-suppr --suppressions-list=tests/lint/cppcheck.txt --std=c11 \
		--enable=warning,performance,portability -D_GNU_SOURCE -Iinclude -Ilib lib kvfs || bad=1; \
	$(MAKE) --no-print-directory -k $(if $(V),,-s) $(PARALLEL) $(TIDY) || bad=1; exit $$bad
$B/tidy/%: %.c .clang-tidy tests/lint/analyzer.h $(wildcard include/*.h lib/*.h lib/python/_kvfs/*.h kvfs/*.h)
	@mkdir -p $(@D)
	$(call quiet,TIDY)clang-tidy --quiet --warnings-as-errors='*' $< -- $(KV_CPPFLAGS) $(INC) \
		$(if $(filter lib/%,$(filter-out lib/err.c,$<)),-include tests/lint/analyzer.h) -std=gnu11 2>$@.log || { cat $@.log; exit 1; }
	@touch $@

# ---- installing

# mount(8) looks for its helpers in /sbin only.
HELPERDIR ?= $(if $(filter /usr/local,$(PREFIX)),/sbin,$(PREFIX)/sbin)
UNITDIR ?= $(PREFIX)/lib/systemd
BASHDIR ?= $(PREFIX)/share/bash-completion/completions
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
MAN_PAGES := $(wildcard kvfs/*.[178] lib/*.3)
# A program that is linked with the library finds it without help from the environment, wherever it was installed.
RPATH = $(if $(filter /usr/lib /usr/lib/% /usr/local/lib,$(LIBDIR)),,-Wl,-rpath,$${libdir} )
# A unit finds the program by its name in some directories only.
units = for u in $(1); do sed -E 's,^(Exec[A-Za-z]*=.*)\bkvfs (-s|mount|umount) ,\1$(PREFIX)/bin/kvfs \2 ,' $$u | \
	install -m644 /dev/stdin $(DESTDIR)$(UNITDIR)/$(2)/$${u\#\#*/} || exit 1; done

install: all ## install all: program, mount helper, library, headers, manuals, units, completion (PREFIX, DESTDIR)
	install -Dm755 $B/kvfs $(DESTDIR)$(PREFIX)/bin/kvfs
	install -d $(DESTDIR)$(HELPERDIR) $(DESTDIR)$(LIBDIR)/pkgconfig $(DESTDIR)$(UNITDIR)/user $(DESTDIR)$(UNITDIR)/system
	ln -sf $(PREFIX)/bin/kvfs $(DESTDIR)$(HELPERDIR)/mount.kvfs
	ln -sf $(PREFIX)/bin/kvfs $(DESTDIR)$(HELPERDIR)/mount.fuse.kvfs
	install -Dm644 -t $(DESTDIR)$(PREFIX)/include include/kvfs.h include/kvfs_ll.h
	install -Dm644 -t $(DESTDIR)$(LIBDIR) $B/libkvfs.a
	install -Dm644 -t $(DESTDIR)$(LIBDIR) $B/libkvfs.so.0
	ln -sf libkvfs.so.0 $(DESTDIR)$(LIBDIR)/libkvfs.so
	sed 's|@PREFIX@|$(PREFIX)|; s|@LIBDIR@|$(LIBDIR)|; s|@VERSION@|$(VERSION)|; s|@RPATH@|$(RPATH)|' lib/kvfs.pc.in | \
		install -m644 /dev/stdin $(DESTDIR)$(LIBDIR)/pkgconfig/kvfs.pc
	for m in $(MAN_PAGES); do install -Dm644 -t $(DESTDIR)$(PREFIX)/share/man/man$${m##*.} $$m || exit 1; done
	ln -sf mount.kvfs.8 $(DESTDIR)$(PREFIX)/share/man/man8/mount.fuse.kvfs.8
	$(call units,systemd/*@.*,user)
	$(call units,systemd/system/*@.* systemd/*@.timer,system)
	install -Dm644 kvfs/completion/kvfs.bash $(DESTDIR)$(BASHDIR)/kvfs
	install -Dm644 -t $(DESTDIR)$(ZSHDIR) kvfs/completion/_kvfs
	[ -n "$(DESTDIR)" ] || [ "$$(id -u)" != 0 ] || ldconfig
uninstall: ## remove what install put there
	@rm -rf $B/installed; $(MAKE) --no-print-directory -s install DESTDIR=$B/installed
	cd $B/installed && find . ! -type d -exec sh -c 'for f; do rm -f "$$0$${f#.}"; done' '$(DESTDIR)' {} +
	rm -rf $B/installed
.PHONY: deb deb-check deps-deb
DEB := $(BUILD)/deb/kvfs-$(VERSION)
deb: deps-deb ## build Debian's packages with Debian's tools, in build/deb
	rm -rf $(BUILD)/deb
	mkdir -p $(DEB)
	{ git ls-files 2>/dev/null || find . -path ./$(BUILD) -prune -o -type f -print; } | tar c -T - | tar x -C $(DEB)
	mv $(DEB)/systemd/debian $(DEB)/debian
	cd $(DEB) && dpkg-buildpackage -us -uc
	@ls $(BUILD)/deb/*.deb
deb-check: deps-deb ## what lintian says of them
	lintian --fail-on=error,warning,info -I $(BUILD)/deb/*.changes
dist: ## the committed source as a tarball
	@mkdir -p $(BUILD)
	git archive --prefix=kvfs-$(VERSION)/ -o $(BUILD)/kvfs-$(VERSION).tar.gz HEAD
	@echo $(BUILD)/kvfs-$(VERSION).tar.gz
clean: ## remove everything built
	rm -rf $(BUILD)

# ---- what must be installed first (Debian)

NEED := gcc libc6-dev pkg-config libfuse3-dev fuse3 liblmdb-dev libarchive-dev libgdbm-dev libjansson-dev libsqlite3-dev \
	libxxhash-dev nettle-dev
NEED_PYTHON := $(NEED) libpython3-dev python3
# CPython's own tests of a mapping are a package in Debian only.
NEED_MAPPING = $(shell python3 -c 'import test.mapping_tests' 2>/dev/null || \
	/usr/bin/python3 -c 'import sys; print("libpython%d.%d-testsuite" % sys.version_info[:2])' 2>/dev/null || echo libpython3.11-testsuite)
NEED_CHECK = $(NEED) $(NEED_MAPPING) libcmocka-dev acl attr emacs-nox git libcap2-bin libpython3-dev make mount nano procps psmisc \
	python3 python3-gdbm python3-lmdb rsync sqlite3 tar util-linux vim zsh
NEED_DEB := $(NEED) build-essential debhelper dh-python libcmocka-dev libpython3-dev lintian make pkgconf python3
NEED_LINT = $(NEED_CHECK) clang-format clang-tidy cppcheck groff-base mandoc systemd valgrind
NEED_BENCH = $(NEED_CHECK) librocksdb-dev libwiredtiger-dev python3-bsddb3 python3-diskcache python3-gdbm python3-h5py python3-lmdb \
	python3-plyvel python3-sqlitedict
deps: ## install what building needs
	@.ci/packages $(NEED)
deps-python: ## install what the Python package needs
	@.ci/packages $(NEED_PYTHON)
deps-check: ## install what the tests need
	@.ci/packages $(NEED_CHECK)
deps-deb: ## install what the packages of Debian need
	@.ci/packages $(NEED_DEB)
deps-lint: ## install what lint, format and valgrind need
	@.ci/packages $(NEED_LINT)
deps-bench: ## install the stores that bench-stores compares with
	@.ci/packages $(NEED_BENCH)

# ---- the two-minute start

MNT ?= $(HOME)/kv
STORE ?=
# Under sudo only the packages are root's business: the build, the store and the mount belong to the user who called sudo.
run: deps ## install what is missing, build, mount the store (STORE=) at MNT=~/kv, and say what to try
	+@user=$${SUDO_USER:-root}; make="$(MAKE) --no-print-directory"; \
	if [ "$$(id -u)" != 0 ] || [ "$$user" = root ]; then exec $$make mount-here; fi; \
	as="runuser -u $$user -- env -u SUDO_USER HOME=$$(getent passwd "$$user" | cut -d: -f6) USER=$$user LOGNAME=$$user"; \
	$$as sh -c 'test -w . && { test ! -e $(BUILD) || test -w $B; }' || $$make $(PARALLEL) all || exit 1; \
	$$as $$make mount-here
mount-here:
	$(MAKE_SELF) all
	@.ci/mount-here $B/kvfs '$(MNT)' '$(STORE)'
help: ## this list
	@awk -F ' *## ' '/^[a-z][a-z -]*:.*##/ { sub(/:.*/, "", $$1); printf "make %-24s %s\n", $$1, $$2 }' Makefile

-include $(shell find $B/obj -name '*.d' 2>/dev/null)
