//! Guests whose memory the host cannot read: the object that makes the machine one.

use super::Builder;
use super::props::{Opts, Props};
use crate::document::types::LaunchSecurity;

/// The object's name.
const ID: &str = "lsec0";

impl Builder<'_> {
    /// Names the object on `-machine`.
    pub(super) fn security_option(&self, opts: &mut Opts) {
        if self.def.launch_security.is_some() {
            opts.put("confidential-guest-support", ID);
        }
    }

    /// The object. Bits of the host's memory encryption that the document does not tell are QEMU's answer.
    pub(super) fn launch_security(&mut self) {
        let host = self.emulator.sev;
        let file = |name: &str| format!("{}/{name}.base64", self.launch.private_dir);
        let props = match &self.def.launch_security {
            None | Some(LaunchSecurity::Tdx(_)) => return,
            Some(LaunchSecurity::S390Pv) => Props::object("s390-pv-guest", ID),
            Some(LaunchSecurity::Sev(s)) => Props::object("sev-guest", ID)
                .opt("cbitpos", s.cbitpos.or(host.map(|h| h.cbitpos)))
                .opt("reduced-phys-bits", s.reduced_phys_bits.or(host.map(|h| h.reduced_phys_bits)))
                .opt("policy", s.policy)
                .opt("dh-cert-file", s.dh_cert.as_ref().map(|_| file("dh_cert")))
                .opt("session-file", s.session.as_ref().map(|_| file("session")))
                .opt("kernel-hashes", s.kernel_hashes),
            Some(LaunchSecurity::SevSnp(s)) => Props::object("sev-snp-guest", ID)
                .opt("cbitpos", s.cbitpos.or(host.map(|h| h.cbitpos)))
                .opt("reduced-phys-bits", s.reduced_phys_bits.or(host.map(|h| h.reduced_phys_bits)))
                .opt("kernel-hashes", s.kernel_hashes)
                .opt("policy", s.policy)
                .opt("guest-visible-workarounds", s.guest_visible_workarounds.as_deref())
                .opt("id-block", s.id_block.as_deref())
                .opt("id-auth", s.id_auth.as_deref())
                .opt("host-data", s.host_data.as_deref())
                .opt("author-key-enabled", s.author_key)
                .opt("vcek-disabled", s.vcek.map(|on| !on)),
        };
        self.line.object(props);
    }
}
