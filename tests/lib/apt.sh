# Packages of another Debian release than this machine has; sourced by tests/run. What apt keeps
# for that stands in a folder of ours: the machine's own configuration of apt is only read.

# The mirrors that this machine has its packages from, whatever the format of its lists.
debian_mirrors() {
	local release

	release=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	apt-get indextargets -o APT::Get::IndexTargets::ReleaseInfo=false \
		--format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v release="$release" '$1 == release && $2 == "main" { print $3 }' | sort -u
}

# private_sources FOLDER deb|deb-src SUITE: Signatures are checked: with Debian's keys where
# this machine has them as a file of their own, else with all that apt trusts.
private_sources() {
	local folder=$1 mirrors keys=/usr/share/keyrings/debian-archive-keyring.gpg

	command -v apt-get >/dev/null || { echo "not Debian: there is no apt-get" >&2 && return 1; }
	mirrors=$(debian_mirrors | tr '\n' ' ')
	[ -n "$mirrors" ] || { echo "apt has no mirror of Debian" >&2 && return 1; }
	mkdir -p "$folder"/apt/{lists,cache,sources}
	printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\n' "$2" "$mirrors" "$3" \
		>"$folder/apt/sources/debian.sources"
	[ ! -e "$keys" ] || echo "Signed-By: $keys" >>"$folder/apt/sources/debian.sources"
}

# private_apt apt-get|apt-cache FOLDER ARGUMENT...
private_apt() {
	local program=$1 folder=$2

	shift 2
	"$program" -q -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$folder/apt/sources" \
		-o Dir::State::Lists="$folder/apt/lists" -o Dir::Cache="$folder/apt/cache" \
		-o Acquire::Retries=2 -o APT::Get::List-Cleanup=0 "$@"
}
