# The libfuse of the Debian release after this one, built from its source package; sourced by
# tests/run. Everything stands below $LIBFUSE. Delete it to get a newer one.

LIBFUSE=$OUT/libfuse317
LIBFUSE_SUITE=trixie
LIBFUSE_LEAST=3.17
LIBFUSE_PC=$LIBFUSE/prefix/lib/pkgconfig

# The sources in $LIBFUSE/fuse3-VERSION, with Debian's patches.
fetch_libfuse() {
	rm -rf "$LIBFUSE"/fuse3*
	private_sources "$LIBFUSE" deb-src "$LIBFUSE_SUITE" &&
		private_apt apt-get "$LIBFUSE" update --error-on=any &&
		(cd "$LIBFUSE" && private_apt apt-get "$LIBFUSE" source --only-source fuse3)
}

compile_libfuse() {
	local sources=("$LIBFUSE"/fuse3-*/)

	rm -rf "$LIBFUSE/build" "$LIBFUSE/prefix"
	meson setup "$LIBFUSE/build" "${sources[0]}" --prefix "$LIBFUSE/prefix" --libdir lib \
		--buildtype release -Dexamples=false -Dtests=false -Dutils=false &&
		ninja -C "$LIBFUSE/build" -j 2 install &&
		PKG_CONFIG_PATH=$LIBFUSE_PC pkg-config --atleast-version=$LIBFUSE_LEAST fuse3
}

# Whether an earlier run has made it, by these very lines.
libfuse_is_there() {
	[ -e "$LIBFUSE_PC/fuse3.pc" ] && cmp -s tests/lib/libfuse.sh "$LIBFUSE/made-by"
}

# true: it can be used. false: it cannot be had, and that is counted as skipped. A build that
# fails ends the configuration.
have_libfuse() {
	local log=$LOGS/libfuse317-fetch.log

	libfuse_is_there && return 0
	mkdir -p "$LIBFUSE"
	if ! fetch_libfuse >"$log" 2>&1; then
		skip "libfuse of $LIBFUSE_SUITE" "$(tail -n 1 "$log")"
		return 1
	fi
	step "build libfuse of $LIBFUSE_SUITE" compile_libfuse || exit 1
	cp tests/lib/libfuse.sh "$LIBFUSE/made-by"
}
