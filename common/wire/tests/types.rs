//! Properties of every type of every program.

use proptest::prelude::*;
use virt_wire::xdr::sample::{Sampler, TypeOps};
use virt_wire::{admin, lock, log, lxc, program, qemu, remote};

fn all() -> impl Iterator<Item = &'static TypeOps> {
    [remote::TYPES, qemu::TYPES, lxc::TYPES, admin::TYPES, lock::TYPES, log::TYPES].into_iter().flatten()
}

#[test]
fn every_type_is_listed() {
    assert!(all().count() >= 760, "{}", all().count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Bytes to value to bytes is the identity, and no shorter input is a value.
    #[test]
    fn round_trip_and_truncation(seed: u64) {
        let mut s = Sampler::new(seed);
        for ty in all() {
            let bytes = (ty.sample)(&mut s);
            prop_assert!(bytes.len() >= ty.min && bytes.len() % 4 == 0, "{}", ty.name);
            let again = (ty.recode)(&bytes);
            prop_assert_eq!(again.as_ref(), Ok(&bytes), "{}", ty.name);
            for cut in (0..bytes.len()).step_by(1 + bytes.len() / 64) {
                prop_assert!((ty.recode)(&bytes[..cut]).is_err(), "{} cut at {}", ty.name, cut);
            }
            prop_assert!((ty.recode)(&[&bytes[..], &[0; 4]].concat()).is_err(), "{} with more", ty.name);
        }
    }

    /// Whatever is flipped: an error or another value, and what decodes also encodes.
    #[test]
    fn flipped_bits(seed: u64) {
        let mut s = Sampler::new(seed);
        for ty in all() {
            let bytes = (ty.sample)(&mut s);
            for _ in 0..8 {
                let mut flipped = bytes.clone();
                for _ in 0..=s.below(3) {
                    let bit = s.below(bytes.len() as u64 * 8) as usize;
                    flipped[bit / 8] ^= 1 << (bit % 8);
                }
                if let Ok(again) = (ty.recode)(&flipped) {
                    // Padding and optional flags may be put right; a second pass changes nothing more.
                    let third = (ty.recode)(&again);
                    prop_assert_eq!(third.as_ref(), Ok(&again), "{}", ty.name);
                }
            }
        }
    }

    /// Words that claim huge sizes are refused without the memory for them: every word of a value in turn.
    #[test]
    fn oversized_counts(seed: u64) {
        let mut s = Sampler::new(seed);
        for ty in all() {
            let bytes = (ty.sample)(&mut s);
            for at in (0..bytes.len()).step_by(4).take(64) {
                for claim in [u32::MAX, 0x7fff_ffff, 0x0200_0000, 0x0010_0000] {
                    let mut claimed = bytes.clone();
                    claimed[at..at + 4].copy_from_slice(&claim.to_be_bytes());
                    if let Ok(again) = (ty.recode)(&claimed) {
                        prop_assert!(again.len() <= claimed.len(), "{} grew at {}", ty.name, at);
                    }
                }
            }
        }
    }

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        for ty in all() {
            let _ = (ty.recode)(&bytes);
        }
    }
}

#[test]
fn tables_are_found_by_number() {
    for number in [0x2000_8086, 0x2000_8087, 0x68000, 0x0690_0690, 0x6b65_6570, 0x0ea7_beef, 0x8753_9319] {
        let program = program(number).unwrap();
        assert_eq!((program.number, program.version), (number, 1));
        for (i, row) in program.procs.iter().enumerate() {
            assert_eq!(row.number, i as i32 + 1);
            assert_eq!(program.proc(row.number), Some(row));
        }
        for none in [0, -1, i32::MIN, i32::MAX, program.procs.len() as i32 + 1] {
            assert_eq!(program.proc(none), None);
        }
    }
    assert!(program(1).is_none());
}

#[test]
fn read_only_rules_look_at_the_arguments() {
    use virt_wire::remote::procs::*;
    use virt_wire::{Procedure, program::ReadOnly};
    let dom = || remote::NonnullDomain { name: "a".into(), uuid: [0; 16], id: -1 };
    let xml = |flags| remote::DomainGetXmlDescArgs { dom: dom(), flags };
    assert!(!DomainGetXmlDesc::refused_readonly(&xml(2)));
    assert!(DomainGetXmlDesc::refused_readonly(&xml(1)));
    assert!(DomainGetXmlDesc::refused_readonly(&xml(2 | 8)));
    let addresses = |source| remote::DomainInterfaceAddressesArgs { dom: dom(), source, flags: 0 };
    assert!(!DomainInterfaceAddresses::refused_readonly(&addresses(0)));
    assert!(DomainInterfaceAddresses::refused_readonly(&addresses(1)));
    assert!(DomainDefineXml::refused_readonly(&remote::DomainDefineXmlArgs { xml: String::new() }));
    assert!(!ConnectGetCapabilities::refused_readonly(&()));
    assert_eq!(DomainGetXmlDesc::info().readonly, ReadOnly::RefusedWithFlags(9));
}
