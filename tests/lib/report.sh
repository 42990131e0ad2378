# Counting and printing results; sourced by tests/run.
#
# Each result is one line "PASSED FAILED SKIPPED" in $TALLY, so that sub-shells can count.

TALLY=
CONFIGURATION=
STARTED=0

# Counts of check, ctest and pytest come from their JUnit files.
COUNT_JUNIT="$ROOT/tests/lib/count_junit.py"

begin_report() {
	TALLY=$(mktemp "$OUT/tally.XXXXXX")
	trap 'rm -f "$TALLY"' EXIT
}

tally() {
	echo "$CONFIGURATION $1 $2 $3" >>"$TALLY"
}

# sum_of NAME|ALL: three numbers.
sum_of() {
	awk -v want="$1" 'want == "ALL" || $1 == want { p += $2; f += $3; s += $4 }
		END { print p + 0, f + 0, s + 0 }' "$TALLY"
}

begin_configuration() {
	CONFIGURATION=$1
	STARTED=$SECONDS
	printf '\n== %s: %s\n' "$1" "${ABOUT[$1]}"
}

# end_configuration STATUS: a configuration that broke off without counting a failure is one.
end_configuration() {
	local passed failed skipped

	read -r passed failed skipped <<<"$(sum_of "$CONFIGURATION")"
	if [ "$1" -ne 0 ] && [ "$failed" -eq 0 ]; then
		echo "FAIL  broke off with status $1"
		tally 0 1 0
		failed=1
	fi
	if [ $((passed + failed + skipped)) -eq 0 ]; then
		echo "FAIL  ran no test"
		tally 0 1 0
		failed=1
	fi
	printf -- '-- %s took %d s: %d passed, %d failed, %d skipped\n' "$CONFIGURATION" \
		$((SECONDS - STARTED)) "$passed" "$failed" "$skipped"
}

end_report() {
	local passed failed skipped

	read -r passed failed skipped <<<"$(sum_of ALL)"
	printf '\ntook %d min %d s\n' $((SECONDS / 60)) $((SECONDS % 60))
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
}

log_name() {
	echo "$LOGS/$CONFIGURATION-$(tr -cs 'a-zA-Z0-9_\n' - <<<"$1").log"
}

# show_end LOG: without the progress of ninja.
show_end() {
	sed '/^\[[0-9]*\/[0-9]*\] /d; s/^/      /' "$1" | tail -n 80
}

# step WHAT COMMAND...: one test; its output is shown only if it fails.
step() {
	local what=$1 log from=$SECONDS

	log=$(log_name "$what")
	shift
	if "$@" >"$log" 2>&1; then
		printf 'ok    %s (%d s)\n' "$what" $((SECONDS - from))
		tally 1 0 0
		return 0
	fi
	printf 'FAIL  %s (%d s): %s\n' "$what" $((SECONDS - from)) "$*"
	show_end "$log"
	tally 0 1 0
	return 1
}

skip() {
	printf 'skip  %s: %s\n' "$1" "$2"
	tally 0 0 1
}

# run_ctest BUILD_DIR: counts single check tests.
run_ctest() {
	local junit=$LOGS/$CONFIGURATION-unit.xml log=$LOGS/$CONFIGURATION-unit.log status=0

	rm -f "$junit"
	"${WRAPPER[@]}" ctest --test-dir "$1" --output-junit "$junit" --output-on-failure -j2 \
		--test-output-size-passed 1000000 >"$log" 2>&1 || status=$?
	count_junit ctest "$junit" "$status" || show_end "$log"
}

# run_pytest WHAT ARGUMENT...: pytest reports its failures and skips itself.
run_pytest() {
	local what=$1 junit=$LOGS/$CONFIGURATION-$1.xml status=0

	shift
	rm -f "$junit"
	"${WRAPPER[@]}" "$VENV/bin/python" -m pytest -c tests/pytest.ini --rootdir tests \
		--junitxml "$junit" "$@" || status=$?
	count_junit "$what" "$junit" "$status" || :
}

# count_junit WHAT FILE STATUS: false if something failed.
count_junit() {
	local passed failed skipped

	read -r passed failed skipped <<<"$(python3 "$COUNT_JUNIT" "$2" "$3")"
	tally "$passed" "$failed" "$skipped"
	printf '%-5s %s: %d passed, %d failed, %d skipped\n' \
		"$([ "$failed" -eq 0 ] && echo ok || echo FAIL)" "$1" "$passed" "$failed" "$skipped"
	[ "$failed" -eq 0 ]
}
