# build, install, check, test, fuzz, demo, bench, packages, clean.
#
# `make test` and `make demo` run as root: they build network namespaces and
# boot a cluster of containers on this machine.

PREFIX ?= /usr
SBIN ?= $(PREFIX)/sbin
DOC ?= $(PREFIX)/share/doc/storhaug
MAN ?= $(PREFIX)/share/man
BASH_COMPLETIONS ?= $(PREFIX)/share/bash-completion/completions
FISH_COMPLETIONS ?= $(PREFIX)/share/fish/vendor_completions.d
# Debian's place. Others have it as share/zsh/site-functions.
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/vendor-completions
# Where Pacemaker and systemd look, and where the agents look for our helpers;
# a prefix moves none of them.
OCF ?= /usr/lib/ocf/resource.d/storhaug
LIBEXEC ?= /usr/libexec/storhaug
UNITS ?= /usr/lib/systemd/system
TMPFILES ?= /usr/lib/tmpfiles.d

AGENTS = ctdb ganesha ganesha_trigger glusterfs noded samba vip
HELPERS = storhaug-noded storhaug-ctdb-lock
LINKED = storhaug storhaug-agents storhaug-corosync
UNIT = storhaug-noded.service
DROPINS = nfs-ganesha.service.d pacemaker.service.d run-storhaug-.mount.d

CARGO ?= cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
RELEASE = $(TARGET)/release
MANUAL = $(RELEASE)/manual

# The stories to tell: every one on bookworm, and on trixie those that only a
# second release can tell. RELEASES="bookworm trixie" is everything on both.
RELEASES ?=

LIBRARIES = libcpg-dev libquorum-dev libvotequorum-dev libcfg-dev \
  libcmap-dev libcorosync-common-dev libqb-dev pkg-config clang \
  libclang-dev gcc libc6-dev
PROGRAMS = iproute2 nftables conntrack tcpdump strace procps kmod \
  libxml2-utils pacemaker-cli-utils resource-agents python3 corosync \
  man-db mandoc bash fish zsh
LAB = mmdebstrap debian-archive-keyring ca-certificates \
  systemd-container qemu-system-x86 busybox-static cpio zstd
PACKAGING = debhelper lintian rpm rpmlint
APT = DEBIAN_FRONTEND=noninteractive apt-get -q -y \
  -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3
# Elsewhere than on Debian they are the packager's to name.
INSTALL_MISSING = command -v dpkg-query >/dev/null || exit 0; \
  set -e; missing=; \
  for p in $(1); do \
    dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null \
      | grep -qx installed || missing="$$missing $$p"; \
  done; \
  if [ -n "$$missing" ]; then \
    $(APT) update; \
    $(APT) install --no-install-recommends $$missing; \
  fi

.PHONY: all build install check format lint docs deny test unit stories
.PHONY: deb rpm packaged fuzz demo bench libraries packages packaging clean

all: build

# With a list of what is linked, for those who pass the programs on.
build: libraries
	$(CARGO) build --release --workspace --locked
	$(CARGO) tree --locked --offline $(LINKED:%=-p %) --edges normal \
	  --prefix none --format '{p}: {l}' > $(RELEASE)/tree
	grep -v ' (/' $(RELEASE)/tree | sed 's/ ([*a-z-]*)//' \
	  | LC_ALL=C sort -u > $(RELEASE)/libraries

# Takes what `make build` left, so that it can run where no compiler is.
# /etc/storhaug is the administrator's: a directory, and no file in it.
install:
	install -d $(DESTDIR)$(OCF) $(DESTDIR)$(LIBEXEC) $(DESTDIR)$(SBIN)
	install -d $(DESTDIR)/etc/storhaug/storhaug.d $(DESTDIR)$(DOC)/examples
	install -d $(DESTDIR)$(UNITS) $(DESTDIR)$(TMPFILES)
	install -m 755 $(AGENTS:%=$(RELEASE)/%) $(DESTDIR)$(OCF)
	install -m 755 $(HELPERS:%=$(RELEASE)/%) $(DESTDIR)$(LIBEXEC)
	install -m 755 $(RELEASE)/storhaug $(DESTDIR)$(SBIN)
	install -m 644 conf/systemd/$(UNIT) $(DESTDIR)$(UNITS)
	cp -r $(DROPINS:%=conf/systemd/%) $(DESTDIR)$(UNITS)
	install -m 644 conf/tmpfiles.d/storhaug.conf $(DESTDIR)$(TMPFILES)
	install -m 644 $(wildcard conf/*.conf) $(DESTDIR)$(DOC)/examples
	install -m 644 README.md LICENSE $(wildcard $(RELEASE)/libraries) \
	  $(DESTDIR)$(DOC)
	rm -rf $(MANUAL)
	$(RELEASE)/storhaug-manual $(MANUAL)
	install -d $(foreach n,5 7 8,$(DESTDIR)$(MAN)/man$n)
	$(foreach n,5 7 8,install -m 644 $(MANUAL)/*.$n $(DESTDIR)$(MAN)/man$n &&) :
	install -D -m 644 $(MANUAL)/storhaug.bash $(DESTDIR)$(BASH_COMPLETIONS)/storhaug
	install -D -m 644 $(MANUAL)/storhaug.fish -t $(DESTDIR)$(FISH_COMPLETIONS)
	install -D -m 644 $(MANUAL)/_storhaug -t $(DESTDIR)$(ZSH_COMPLETIONS)

# Two packages from one `make install`, and where they are put.
DEB ?= $(RELEASE)/deb
RPM ?= $(RELEASE)/rpm

deb: packaging
	mkdir -p $(DEB)
	debian/rules clean
	DEB_RULES_REQUIRES_ROOT=no debian/rules binary DEBS=$(abspath $(DEB))
	debian/rules clean

# Without asking rpm for what dpkg has installed.
rpm: packaging
	rpmbuild -bb --build-in-place --nodeps rpm/storhaug.spec \
	  --define "_topdir $(abspath $(RELEASE)/rpmbuild)" \
	  --define "_rpmdir $(abspath $(RPM))" \
	  --define "_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm"

check: libraries format lint docs deny

format:
	$(CARGO) fmt --all --check

lint:
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps \
	  --document-private-items --locked

deny:
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check bans licenses sources

test: unit packaged stories

# The properties are tried on the same cases every time, so that a verdict can be
# repeated.
unit: export PROPTEST_RNG_SEED = 1
unit: packages
	$(CARGO) test --workspace --exclude storhaug-lab --locked
	$(CARGO) test -p storhaug-lab --lib --bins --locked

# Every parser and the packet builder, on other input every time: by their
# properties, and for FUZZ_SECONDS each by cargo-fuzz, where that and a nightly
# toolchain are.
FUZZ_CASES ?= 5000
FUZZ_SECONDS ?= 20
fuzz: export PROPTEST_CASES = $(FUZZ_CASES)
fuzz: libraries
	$(CARGO) test --workspace --exclude storhaug-lab --locked -- panic checksum
	if $(CARGO) +nightly fuzz --version; then \
	  for target in $$($(CARGO) +nightly fuzz list); do \
	    $(CARGO) +nightly fuzz run $$target -- \
	      -max_total_time=$(FUZZ_SECONDS) || exit; \
	  done; \
	else echo "without cargo-fuzz and nightly: properties alone"; fi

packaged: packages build
	$(CARGO) test -p storhaug-lab --test packages --locked

stories: packages build
	$(CARGO) test -p storhaug-lab --test stories --locked -- $(RELEASES)

demo: packages build
	$(RELEASE)/storhaug-lab demo

# Goes on where an earlier run was interrupted.
bench: packages build
	$(RELEASE)/storhaug-lab --name bench bench

libraries:
	@$(call INSTALL_MISSING,$(LIBRARIES))

packages: libraries
	@$(call INSTALL_MISSING,$(PROGRAMS) $(LAB) $(PACKAGING))

packaging: libraries
	@$(call INSTALL_MISSING,$(PACKAGING))

clean:
	$(CARGO) clean
