# The libfuse of the Debian release after this one, built from its source package; sourced by
# tests/run. Everything stands below $LIBFUSE, also what apt keeps: the machine's own
# configuration of apt is only read. Delete $LIBFUSE to get a newer one.

LIBFUSE=$OUT/libfuse317
LIBFUSE_SUITE=trixie
LIBFUSE_LEAST=3.17
LIBFUSE_PC=$LIBFUSE/prefix/lib/pkgconfig

# The mirrors that this machine has its packages from, whatever the format of its lists.
debian_mirrors() {
	local release

	release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	apt-get indextargets -o APT::Get::IndexTargets::ReleaseInfo=false \
		--format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v release="$release" '$1 == release && $2 == "main" { print $3 }' | sort -u
}

# Signatures are checked: with Debian's keys where this machine has them as a file of their
# own, else with all that apt trusts.
write_apt_sources() {
	local mirrors keys=/usr/share/keyrings/debian-archive-keyring.gpg

	mirrors=$(debian_mirrors | tr '\n' ' ')
	[ -n "$mirrors" ] || { echo "apt has no mirror of Debian" >&2 && return 1; }
	mkdir -p "$LIBFUSE"/apt/{lists,cache,sources}
	printf 'Types: deb-src\nURIs: %s\nSuites: %s\nComponents: main\n' "$mirrors" \
		"$LIBFUSE_SUITE" >"$LIBFUSE/apt/sources/debian.sources"
	[ ! -e "$keys" ] || echo "Signed-By: $keys" >>"$LIBFUSE/apt/sources/debian.sources"
}

private_apt() {
	apt-get -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$LIBFUSE/apt/sources" \
		-o Dir::State::Lists="$LIBFUSE/apt/lists" -o Dir::Cache="$LIBFUSE/apt/cache" \
		-o Acquire::Retries=2 -o APT::Get::List-Cleanup=0 "$@"
}

# The sources in $LIBFUSE/fuse3-VERSION, with Debian's patches.
fetch_libfuse() {
	rm -rf "$LIBFUSE"/fuse3*
	command -v apt-get >/dev/null || { echo "not Debian: there is no apt-get" >&2 && return 1; }
	write_apt_sources && private_apt update --error-on=any &&
		(cd "$LIBFUSE" && private_apt source --only-source fuse3)
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
