# The configurations; sourced by tests/run. Each is a function config_NAME and is run in a
# sub-shell with `set -e`, so that a build that fails ends it.

CONFIGURATIONS=(lint gcc clang asan tsan tidy analyzer fuzz mount numa libfuse317 scale stress
	speed bench-short docs)
# Only when named: these take long, and a machine that does nothing else.
EXTRA_CONFIGURATIONS=(bench)
declare -A ABOUT=(
	[lint]="layers, formatting, words and places"
	[gcc]="Release build with gcc, warnings are errors, unit tests"
	[clang]="Release build with clang, warnings are errors, unit tests"
	[asan]="unit and mount tests under AddressSanitizer and UndefinedBehaviorSanitizer"
	[tsan]="unit tests and a mount stress under ThreadSanitizer"
	[tidy]="clang-tidy"
	[analyzer]="gcc -fanalyzer"
	[fuzz]="libFuzzer targets, \$FUZZ_SECONDS each (60)"
	[mount]="real mounts, read by real tools and libraries"
	[numa]="placement of pages, in virtual machines of two and four memory nodes"
	[libfuse317]="mounts with libfuse 3.17 or later, which knows passthrough itself"
	[scale]="a model of 92,000 tensors"
	[stress]="64 threads faulting at once for \$STRESS_SECONDS (60)"
	[speed]="first and second touch against plain libfuse and the source"
	[bench-short]="resident tensors against the original file, and a loader that walks layers; 1 GiB"
	[bench]="every promise beside its baseline, 4 GiB: some minutes; not part of the whole run"
	[docs]="man pages, links, and every example of the pages"
)

SOURCES=(fs parsers gpu mountctl tests)

# Sanitizers of clang 14 need the old address layout; an empty list where that is refused.
WRAPPER=()

# configure NAME COMPILER CMAKE_ARGUMENT...: build-tests/NAME.
configure() {
	local name=$1 compiler=$2

	shift 2
	step "configure $name" cmake -S . -B "$OUT/$name" -G Ninja -DCMAKE_C_COMPILER="$compiler" \
		-DWEIGHTFS_WERROR=ON "$@"
}

build() {
	configure "$@"
	step "build $1" cmake --build "$OUT/$1" -j 2
}

build_release() {
	build gcc gcc -DCMAKE_BUILD_TYPE=Release
}

# ---- lint ----

c_files() {
	find "${SOURCES[@]}" -name '*.[ch]' | sort
}

check_format() {
	c_files | xargs clang-format --dry-run -Werror
}

# The top level holds these and dotfiles; build directories are nobody's concern.
check_top_level() {
	local entry bad=0

	for entry in *; do
		case $entry in
		fs | parsers | gpu | mountctl | tests | docs) ;;
		CMakeLists.txt | README.md | LICENSE | build*) ;;
		*) echo "$entry: not expected at the top level" && bad=1 ;;
		esac
	done
	return $bad
}

# Places of one machine, and notes to oneself. The brackets keep this line from being found.
check_words() {
	! grep -rnIE '(^|[^a-z])/[w]ork/|/tmp/[b]uild-|\b(TO[D]O|FIX[M]E|XX[X])\b|--[i]ndex-url' \
		"${SOURCES[@]}" docs .ci CMakeLists.txt README.md
}

check_scripts() {
	local script

	for script in tests/run .ci/run tests/lib/*.sh tests/lint/*.sh; do
		bash -n "$script" || return 1
	done
	"$VENV/bin/python" -m compileall -q -f tests
}

config_lint() {
	step "layers: who includes what" tests/lint/check_layers.sh || :
	step "clang-format" check_format || :
	step "top level" check_top_level || :
	step "words" check_words || :
	step "scripts parse" check_scripts || :
	step "sizes" python3 tests/lint/metrics.py fs parsers gpu mountctl || :
	cat "$(log_name sizes)"
}

# ---- compilers ----

config_gcc() {
	build_release
	run_ctest "$OUT/gcc"
}

config_clang() {
	build clang clang -DCMAKE_BUILD_TYPE=Release
	run_ctest "$OUT/clang"
}

# One file at a time: with several, clang-tidy 14 carries va_lists over from one to the next.
run_tidy() {
	c_files | grep '\.c$' | grep -v '^tests/fuzz/' |
		xargs -P 2 -n 1 clang-tidy -p "$OUT/clang" --quiet --warnings-as-errors='*' \
			2> >(grep -v 'warnings generated' >&2)
}

config_tidy() {
	build clang clang -DCMAKE_BUILD_TYPE=Release
	step "clang-tidy" run_tidy
}

# gcc 12 follows paths that cannot be; what it says falsely is listed with the reason.
analyze() {
	local found=$LOGS/analyzer-found.txt

	LC_ALL=C cmake --build "$OUT/analyzer" -j 2 --clean-first >"$LOGS/analyzer-build.log" 2>&1 || {
		cat "$LOGS/analyzer-build.log"
		return 1
	}
	grep -oE '[a-z/_0-9]+\.[ch]:[0-9]+:.*\[-Wanalyzer[-a-z]+\]' "$LOGS/analyzer-build.log" |
		sed "s#^$ROOT/##; s#:[0-9:]* warning##" | sort -u >"$found" || :
	! grep -vFf <(grep -v '^#' tests/lint/analyzer_known.txt | cut -f1) "$found"
}

config_analyzer() {
	configure analyzer gcc -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-fanalyzer \
		-DBUILD_TESTING=OFF -DWEIGHTFS_WERROR=OFF
	step "gcc -fanalyzer" analyze
}

# ---- sanitizers ----

old_address_layout() {
	if setarch -R true 2>/dev/null; then
		WRAPPER=(setarch -R)
	fi
}

no_reports() {
	local found=0 report

	for report in "$1".*; do
		[ -e "$report" ] || continue
		head -n 60 "$report"
		found=1
	done
	return $found
}

# sanitized_build NAME SANITIZERS
sanitized_build() {
	old_address_layout
	rm -f "$LOGS/$1-report."*
	build "$1" clang -DCMAKE_BUILD_TYPE=Debug "-DCMAKE_C_FLAGS=-O1 -g" -DWEIGHTFS_SANITIZE="$2"
}

config_asan() {
	sanitized_build asan address,undefined
	export ASAN_OPTIONS=log_path=$LOGS/asan-report:detect_stack_use_after_return=1
	export UBSAN_OPTIONS=log_path=$LOGS/asan-report:print_stacktrace=1
	run_ctest "$OUT/asan" || :
	WEIGHTFS_BIN_DIR=$OUT/asan/bin WEIGHTFS_SANITIZED=1 run_pytest mount tests/mount || :
	step "no reports" no_reports "$LOGS/asan-report"
}

config_tsan() {
	sanitized_build tsan thread
	export TSAN_OPTIONS=log_path=$LOGS/tsan-report:history_size=4
	TSAN_OPTIONS+=:suppressions=$ROOT/tests/lib/tsan_known.txt
	run_ctest "$OUT/tsan" || :
	WEIGHTFS_BIN_DIR=$OUT/tsan/bin WEIGHTFS_SANITIZED=1 STRESS_SECONDS=${TSAN_SECONDS:-20} \
		run_pytest stress tests/stress tests/mount/test_changed_source.py \
		tests/mount/test_lifecycle.py tests/mount/test_prefetch.py || :
	step "no reports" no_reports "$LOGS/tsan-report"
}

# ---- fuzzing ----

# fuzz_target PROGRAM: seeds and earlier findings stand in tests/corpus/FORMAT.
fuzz_target() {
	local format seeds=() words=() findings=$OUT/fuzz-findings grown

	format=$(basename "$1")
	format=${format#fuzz_}
	grown=$OUT/fuzz-corpus/$format
	mkdir -p "$grown" "$findings"
	[ ! -d "tests/corpus/$format" ] || mapfile -t seeds < <(find "tests/corpus/$format" -type d)
	[ ! -e "tests/fuzz/$format.dict" ] || words=("-dict=tests/fuzz/$format.dict")
	"$1" "${words[@]}" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
		-artifact_prefix="$findings/$format-" "$grown" "${seeds[@]}"
}

config_fuzz() {
	local source targets=() target

	for source in tests/fuzz/fuzz_*.c; do
		targets+=("$(basename "$source" .c)")
	done
	configure fuzz clang -DCMAKE_BUILD_TYPE=RelWithDebInfo -DWEIGHTFS_FUZZ=ON
	step "build fuzz" cmake --build "$OUT/fuzz" -j 2 --target "${targets[@]}"
	for target in "${targets[@]}"; do
		# Two at a time: one for each core of a small machine.
		while [ "$(jobs -rp | wc -l)" -ge 2 ]; do
			wait -n || :
		done
		step "$target for ${FUZZ_SECONDS:-60} s" fuzz_target "$OUT/fuzz/bin/$target" &
	done
	wait
}

# ---- mounts ----

config_mount() {
	build_release
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin run_pytest mount tests/mount
}

config_numa() {
	have_guest || return 0
	build_release
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin run_pytest numa -s tests/numa
}

# loads_libfuse PROGRAM: ours, and not the one of this machine.
loads_libfuse() {
	local version

	version=$(PKG_CONFIG_PATH=$LIBFUSE_PC pkg-config --modversion fuse3)
	ldd "$1" && "$1" --version
	ldd "$1" | grep -qF "$LIBFUSE/prefix/lib/libfuse3.so" &&
		"$1" --version | grep -qx "libfuse $version, built with ${version%.*}"
}

# What is done by other code than with the libfuse of this machine, and how mounts begin and
# end, which is libfuse's affair.
config_libfuse317() {
	local bin=$OUT/libfuse317/weightfs/bin

	if pkg-config --atleast-version=$LIBFUSE_LEAST fuse3; then
		skip "another libfuse" "the one of this machine is as new: the others test it"
		return 0
	fi
	have_libfuse || return 0
	PKG_CONFIG_PATH=$LIBFUSE_PC build libfuse317/weightfs gcc -DCMAKE_BUILD_TYPE=Release
	run_ctest "$OUT/libfuse317/weightfs"
	step "it is the libfuse that is loaded" loads_libfuse "$bin/weightfs"
	WEIGHTFS_BIN_DIR=$bin run_pytest mount tests/mount/test_{resident,lifecycle,errors}.py \
		tests/mount/test_{changed_source,doctor,readonly,refusals,requests,tree,views}.py
}

config_scale() {
	build_release
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin run_pytest scale -s tests/scale
}

config_stress() {
	build_release
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin run_pytest stress -s tests/stress
}

config_speed() {
	build_release
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin run_pytest speed -s tests/speed
}

# run_bench ARGUMENT...: the table goes to build-tests/bench/.
run_bench() {
	local junit=$OUT/bench/bench.xml status=0

	build_release
	rm -f "$junit"
	mkdir -p "$OUT/bench"
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin "$VENV/bin/python" tests/bench/bench.py "$OUT/bench" "$@" ||
		status=$?
	count_junit bench "$junit" "$status" || :
}

config_bench() {
	run_bench
}

config_bench-short() {
	run_bench --short
}

# ---- docs ----

lint_man_pages() {
	local pages

	mapfile -t pages < <(find docs -name '*.[1-8]')
	[ ${#pages[@]} -gt 0 ] && mandoc -T lint -W warning "${pages[@]}"
}

# Every file that the documents point to with a relative link.
check_links() {
	local page link bad=0

	for page in README.md docs/*.md; do
		while read -r link; do
			[ -e "$(dirname "$page")/$link" ] || { echo "$page: $link: no such file" && bad=1; }
		done < <(grep -oE '\]\([^)#:]+' "$page" | cut -c3-)
	done
	return $bad
}

# The programs and scripts that the README tells a person to type.
check_readme_commands() {
	local command

	grep -oE '^ *(\$ )?\./[a-z/_]+' README.md | sed 's/^ *\(\$ \)\?//' | sort -u |
		while read -r command; do
			[ -x "$command" ] || { echo "README.md: $command: no such command" && return 1; }
		done
}

config_docs() {
	step "man pages" lint_man_pages || :
	step "links" check_links || :
	step "commands of the README exist" check_readme_commands || :
	build_release
	WEIGHTFS_BIN_DIR=$OUT/gcc/bin run_pytest docs tests/docs
}
