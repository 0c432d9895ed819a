//! What a compiled rule looks at in a packet: typed, so that a firewall never sees a word of a document.

use std::net::IpAddr;

use virt_model::Mac;

/// A part of a packet, or what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The frame's sender.
    EtherSource,
    /// The frame's receiver.
    EtherTarget,
    /// The frame's protocol.
    EtherType,
    /// The number of the virtual LAN.
    VlanId,
    /// The protocol inside the virtual LAN's head.
    VlanType,
    /// A part of a spanning tree message: bytes from the head's begin, and how many.
    Stp(u16, u16),
    /// A part of an ARP packet: bytes from its begin, and how many.
    Arp(u16, u16),
    /// ARP packets that ask for the sender's own address.
    Gratuitous,
    /// The packet's sender.
    IpSource,
    /// The packet's receiver.
    IpTarget,
    /// The protocol inside IP.
    IpProtocol,
    /// The class of service.
    Dscp,
    /// The sender's port.
    SourcePort,
    /// The receiver's port.
    TargetPort,
    /// ICMP's type.
    IcmpType,
    /// ICMP's code.
    IcmpCode,
    /// TCP's flags.
    TcpFlags,
    /// The state of the connection.
    State,
    /// Whether the packet is an answer.
    Answer,
    /// The number of connections.
    Connections,
    /// A set that somebody else keeps.
    Set,
}

/// What it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// This number.
    Number(u32),
    /// From here to there.
    Range(u32, u32),
    /// This hardware address under this mask.
    Mac(Mac, Mac),
    /// An address in this network.
    Net(IpAddr, u8),
    /// An address from here to there.
    Addresses(IpAddr, IpAddr),
    /// Of the bits of the first, those of the second are set.
    Bits(u8, u8),
    /// One of these states, bits as in `STATES`.
    States(u8),
    /// Yes or no.
    Is(bool),
    /// More than this.
    Above(u32),
    /// In the set of this name, looked up by these sides.
    InSet(String, Vec<bool>),
}

/// One thing that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Where.
    pub field: Field,
    /// What it must be, or must not.
    pub test: Test,
    /// That it must not.
    pub negated: bool,
}

/// Which way a packet goes, seen from the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// It comes from the guest.
    Out,
    /// It goes to the guest.
    In,
}

/// The full mask of a hardware address.
pub const WHOLE_MAC: Mac = Mac([0xff; 6]);
/// The address that spanning tree messages go to.
pub const STP_GROUP: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0]);

impl Match {
    /// A plain comparison with a number.
    pub fn number(field: Field, number: u32) -> Self {
        Self { field, test: Test::Number(number), negated: false }
    }
}
