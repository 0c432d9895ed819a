//! The guest's clock and timers.

use virt_xml::rt_error::{Code, Domain};
use virt_xml::{Bad, El, Lenient, Xml, YesNo, names};

names! {
    /// What the guest's clock follows.
    pub enum ClockOffset { Utc = "utc", Localtime = "localtime", Variable = "variable", Timezone = "timezone", Absolute = "absolute" }
    /// What a variable clock counts from.
    pub enum ClockBasis { Utc = "utc", Localtime = "localtime" }
    /// A timer.
    pub enum TimerName {
        Platform = "platform", Pit = "pit", Rtc = "rtc", Hpet = "hpet", Tsc = "tsc", Kvmclock = "kvmclock",
        Hypervclock = "hypervclock", Armvtimer = "armvtimer"
    }
    /// What becomes of ticks the guest missed.
    pub enum TickPolicy { Delay = "delay", Catchup = "catchup", Merge = "merge", Discard = "discard" }
    /// What a timer follows.
    pub enum TimerTrack { Boot = "boot", Guest = "guest", Wall = "wall", Realtime = "realtime" }
    /// How the TSC is shown.
    pub enum TscMode { Auto = "auto", Native = "native", Emulate = "emulate", Paravirt = "paravirt", Smpsafe = "smpsafe" }
}

/// A clock's offset; an empty one counts as missing.
pub struct OffsetText;

impl virt_xml::Codec<ClockOffset> for OffsetText {
    fn parse(text: &str) -> Result<ClockOffset, virt_xml::Bad> {
        match text {
            "" => Err(virt_xml::Bad::Missing),
            _ => ClockOffset::from_name(text).ok_or(virt_xml::Bad::Unknown),
        }
    }
    fn put(value: &ClockOffset, out: &mut String) {
        out.push_str(value.as_str());
    }
}

/// A basis; one that is not known counts only where a basis counts.
pub struct BasisText;

impl virt_xml::Codec<ClockBasis> for BasisText {
    fn parse(text: &str) -> Result<ClockBasis, Bad> {
        ClockBasis::from_name(text).ok_or(Bad::Missing)
    }
    fn put(value: &ClockBasis, out: &mut String) {
        out.push_str(value.as_str());
    }
}

/// `<clock>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Clock::check)]
pub struct Clock {
    #[xml(attr, with = OffsetText, say(ConfigUnsupported, "unknown clock offset '{}'"))]
    pub offset: ClockOffset,
    /// Seconds, or `reset`.
    #[xml(attr)]
    pub adjustment: Option<String>,
    #[xml(attr, with = BasisText)]
    pub basis: Option<ClockBasis>,
    /// Seconds of `adjustment` when the guest started (status file only).
    #[xml(attr, status)]
    pub adjustment0: Option<i64>,
    #[xml(attr)]
    pub timezone: Option<String>,
    /// Seconds since 1970.
    #[xml(attr, with = Lenient)]
    pub start: Option<u64>,
    #[xml(child = "timer")]
    pub timers: Vec<Timer>,
}

impl Clock {
    /// Each offset has attributes of its own; those of others are passed over.
    fn check(&mut self, e: El<'_>) -> virt_xml::rt_error::Result<()> {
        let offset = self.offset;
        if offset != ClockOffset::Variable {
            self.basis = None;
            self.adjustment0 = None;
        } else if let Some(basis) = e.attr("basis").filter(|_| self.basis.is_none()) {
            let text = format!("unknown clock basis '{basis}'");
            return Err(e.error(Code::ConfigUnsupported, Domain::Domain, text));
        }
        if offset != ClockOffset::Absolute {
            self.start = None;
        }
        if offset != ClockOffset::Timezone || self.timezone.as_deref() == Some("") {
            self.timezone = None;
        }
        if matches!(offset, ClockOffset::Timezone | ClockOffset::Absolute) {
            self.adjustment = None;
        }
        Ok(())
    }
}

/// `<timer>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Timer {
    #[xml(attr, required)]
    pub name: TimerName,
    #[xml(attr, with = YesNo)]
    pub present: Option<bool>,
    #[xml(attr)]
    pub tickpolicy: Option<TickPolicy>,
    #[xml(attr)]
    pub track: Option<TimerTrack>,
    /// Hertz.
    #[xml(attr)]
    pub frequency: Option<u64>,
    #[xml(attr)]
    pub mode: Option<TscMode>,
    #[xml(child)]
    pub catchup: Catchup,
}

/// How missed ticks are made up.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Catchup {
    #[xml(attr, read_if = virt_xml::not_zero)]
    pub threshold: Option<u32>,
    #[xml(attr, read_if = virt_xml::not_zero)]
    pub slew: Option<u32>,
    #[xml(attr, read_if = virt_xml::not_zero)]
    pub limit: Option<u32>,
}
