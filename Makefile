# The everyday commands. Everything else is `cargo xtask --help`.

TEST_LEVEL ?= ci
PREFIX     ?= /usr
DESTDIR    ?=
SBINDIR    ?= $(PREFIX)/sbin
SYSCONFDIR ?= /etc
UNITDIR    ?= $(PREFIX)/lib/systemd/system
USERUNITDIR ?= $(PREFIX)/lib/systemd/user
LIBEXECDIR ?= $(PREFIX)/libexec/virtd
BINDIR     ?= $(or $(CARGO_TARGET_DIR),target)/release
# A daemon is what has a service unit.
DAEMONS    := $(notdir $(basename $(wildcard systemd/*.service)))
HELPERS    := virt-launch virt-leaseshelper

.PHONY: all demo test check bench install clean

all:
	cargo build --release $(addprefix -p ,$(DAEMONS) virt-launch)

# A real guest, driven by real virsh; leaves nothing behind.
demo:
	@tools/demo

# Every test. TEST_LEVEL=full repeats the kill and hostile-byte tests at their full counts.
test:
	@TEST_LEVEL=$(TEST_LEVEL) tools/test

# What .ci/run checks before the tests.
check:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

# One table; REFERENCE=URI puts an installed libvirt beside it.
bench:
	cargo xtask bench $(if $(REFERENCE),--reference $(REFERENCE))

# Units, users and daemons, under DESTDIR. Builds nothing: run `make` first.
install:
	install -d $(DESTDIR)$(SBINDIR) $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(UNITDIR) $(DESTDIR)$(USERUNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	install -m 755 $(addprefix $(BINDIR)/,$(DAEMONS)) $(DESTDIR)$(SBINDIR)/
	install -m 755 $(addprefix $(BINDIR)/,$(HELPERS)) $(DESTDIR)$(LIBEXECDIR)/
	# The name under which libvirt's clients start their user's daemon. libvirt's own program stays.
	[ -e $(DESTDIR)$(SBINDIR)/libvirtd ] || ln -s virtqemud $(DESTDIR)$(SBINDIR)/libvirtd
	install -m 644 systemd/*.socket systemd/*.service $(DESTDIR)$(UNITDIR)/
	install -m 644 systemd/user/*.socket systemd/user/*.service $(DESTDIR)$(USERUNITDIR)/
	install -d -m 700 $(DESTDIR)$(SYSCONFDIR)/libvirt/nwfilter
	install -m 600 virtnwfilterd/filters/*.xml $(DESTDIR)$(SYSCONFDIR)/libvirt/nwfilter/
	# Only where there never were networks: one that was removed stays away.
	if [ ! -e $(DESTDIR)$(SYSCONFDIR)/libvirt/qemu/networks ]; then \
	  install -d -m 700 $(DESTDIR)$(SYSCONFDIR)/libvirt/qemu/networks/autostart; \
	  install -m 600 virtnetworkd/networks/default.xml $(DESTDIR)$(SYSCONFDIR)/libvirt/qemu/networks/; \
	  ln -s ../default.xml $(DESTDIR)$(SYSCONFDIR)/libvirt/qemu/networks/autostart/default.xml; \
	fi
	# The host's own zone of this name stays.
	install -d $(DESTDIR)$(PREFIX)/lib/firewalld/zones
	[ -e $(DESTDIR)$(PREFIX)/lib/firewalld/zones/libvirt.xml ] || \
	  install -m 644 virtnetworkd/firewalld/libvirt.xml $(DESTDIR)$(PREFIX)/lib/firewalld/zones/
	install -m 644 systemd/virtd.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/virtd.conf
	install -m 644 systemd/virtd.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/virtd.conf

clean:
	cargo clean
