# The kernel that virtual machines boot: Debian's for clouds, of a version that passes files
# through, taken out of its package; sourced by tests/run. Nothing is installed. Delete $GUEST
# to get a newer one.

GUEST=$OUT/guest
GUEST_SUITE=bookworm-backports
GUEST_PACKAGE=linux-image-cloud-amd64

# The package that the one without a version stands for.
guest_kernel_package() {
	private_apt apt-cache "$GUEST" depends "$GUEST_PACKAGE" |
		awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }'
}

fetch_guest_kernel() {
	local package

	[ "$(uname -m)" = x86_64 ] || { echo "a $(uname -m): the kernel is one for x86_64" >&2 && return 1; }
	private_sources "$GUEST" deb "$GUEST_SUITE" &&
		private_apt apt-get "$GUEST" update --error-on=any || return 1
	package=$(guest_kernel_package)
	[ -n "$package" ] || { echo "$GUEST_SUITE has no $GUEST_PACKAGE" >&2 && return 1; }
	rm -rf "$GUEST/kernel" "$GUEST"/linux-image-*.deb
	(cd "$GUEST" && private_apt apt-get "$GUEST" download "$package") &&
		dpkg-deb -x "$GUEST"/linux-image-*.deb "$GUEST/kernel" &&
		rm "$GUEST"/linux-image-*.deb
}

guest_kernel_is_there() {
	[ -e "$GUEST/kernel/boot" ] && cmp -s tests/lib/guest_kernel.sh "$GUEST/made-by"
}

# true: machines can be booted. false: they cannot, and that is counted as skipped.
have_guest() {
	local log=$LOGS/guest-kernel.log

	if ! command -v qemu-system-x86_64 >/dev/null; then
		skip "virtual machines" "no qemu-system-x86_64"
		return 1
	fi
	guest_kernel_is_there && return 0
	mkdir -p "$GUEST"
	if ! fetch_guest_kernel >"$log" 2>&1; then
		skip "the kernel of $GUEST_SUITE" "$(tail -n 1 "$log")"
		return 1
	fi
	cp tests/lib/guest_kernel.sh "$GUEST/made-by"
}
