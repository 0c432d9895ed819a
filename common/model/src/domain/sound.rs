//! Sound cards and the host's audio.

use virt_xml::rt_error::{Code, Domain, Result};
use virt_xml::{El, NonZero, Xml, YesNo, names, not_zero};

use super::info::{DeviceInfo, VirtioOptions};

names! {
    /// The card.
    pub enum SoundModel {
        Sb16 = "sb16", Es1370 = "es1370", Pcspk = "pcspk", Ac97 = "ac97", Ich6 = "ich6", Ich9 = "ich9", Usb = "usb",
        Ich7 = "ich7", Virtio = "virtio"
    }
    /// The codec of an HDA card.
    pub enum CodecKind { Duplex = "duplex", Micro = "micro", Output = "output" }
    /// Sample formats.
    pub enum SampleFormat { Default = "default", U8 = "u8", S8 = "s8", U16 = "u16", S16 = "s16", U32 = "u32", S32 = "s32", F32 = "f32" }
    /// The host's audio system.
    pub enum AudioKind {
        None = "none", Alsa = "alsa", Coreaudio = "coreaudio", Jack = "jack", Oss = "oss", Pulseaudio = "pulseaudio",
        Sdl = "sdl", Spice = "spice", File = "file", Dbus = "dbus", Pipewire = "pipewire"
    }
    /// SDL's audio drivers.
    pub enum SdlAudioDriver {
        Default = "default", Esd = "esd", Alsa = "alsa", Arts = "arts", Pulseaudio = "pulseaudio"
    }
}

/// `<sound>`.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Sound::check)]
pub struct Sound {
    #[xml(attr, required)]
    pub model: SoundModel,
    #[xml(attr, with = YesNo)]
    pub multichannel: Option<bool>,
    #[xml(attr, with = NonZero)]
    pub streams: Option<u32>,
    #[xml(child = "codec")]
    pub codecs: Vec<Codec>,
    #[xml(attr = "audio@id", with = NonZero, required)]
    pub audio: Option<u32>,
    #[xml(flatten)]
    pub info: DeviceInfo,
    #[xml(child)]
    pub driver: VirtioOptions,
}

impl Sound {
    /// Only some cards can be told the number of their channels or streams.
    fn check(&mut self, _: El<'_>) -> Result<()> {
        if self.model != SoundModel::Usb {
            self.multichannel = None;
        }
        if self.model != SoundModel::Virtio {
            self.streams = None;
        }
        if !matches!(self.model, SoundModel::Ich6 | SoundModel::Ich9) {
            self.codecs.clear();
        }
        Ok(())
    }
}

/// A codec of an HDA card.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct Codec {
    #[xml(attr = "type", required)]
    pub kind: CodecKind,
}

/// `<audio>`: where sound comes from and goes to on the host. Which attributes count depends on the kind.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
#[xml(check = Audio::check)]
pub struct Audio {
    #[xml(attr, required, with = NonZero)]
    pub id: u32,
    #[xml(attr = "type", required)]
    pub kind: AudioKind,
    /// Microseconds.
    #[xml(attr = "timerPeriod", with = NonZero)]
    pub timer_period: Option<u32>,
    /// A WAV file (`file`).
    #[xml(attr)]
    pub path: Option<String>,
    /// SDL's driver.
    #[xml(attr)]
    pub driver: Option<SdlAudioDriver>,
    /// PipeWire's folder.
    #[xml(attr = "runtimeDir")]
    pub runtime_dir: Option<String>,
    /// PulseAudio's server.
    #[xml(attr = "serverName")]
    pub server_name: Option<String>,
    #[xml(attr = "tryMMap", with = YesNo)]
    pub try_mmap: Option<bool>,
    #[xml(attr, with = YesNo)]
    pub exclusive: Option<bool>,
    #[xml(attr = "dspPolicy")]
    pub dsp_policy: Option<i32>,
    #[xml(child)]
    pub input: AudioIo,
    #[xml(child)]
    pub output: AudioIo,
}

impl Audio {
    /// Each of the host's systems has settings of its own; those of others are passed over.
    fn check(&mut self, e: El<'_>) -> Result<()> {
        use AudioKind as K;
        if self.kind == K::Oss && self.dsp_policy.is_some_and(|p| p < 0) {
            let text =
                format!("cannot parse 'dspPolicy' value '{}'", e.attr("dspPolicy").unwrap_or_default());
            return Err(e.error(Code::XmlError, Domain::Domain, text));
        }
        if self.kind == K::Pipewire {
            let io = ["input", "output"].map(|name| e.child(name));
            if let Some(io) = io.into_iter().flatten().find(|io| io.attr("latency") == Some("0")) {
                return Err(io.bad_attr("latency", "0", virt_xml::Bad::Whole("Zero is not permitted")));
            }
        }
        let kind = self.kind;
        let drop = |value: &mut dyn FnMut(), kinds: &[K]| {
            if !kinds.contains(&kind) {
                value();
            }
        };
        drop(&mut || self.path = None, &[K::File]);
        drop(&mut || self.driver = None, &[K::Sdl]);
        drop(&mut || self.runtime_dir = None, &[K::Pipewire]);
        drop(&mut || self.server_name = None, &[K::Pulseaudio]);
        drop(&mut || self.try_mmap = None, &[K::Oss]);
        drop(&mut || self.exclusive = None, &[K::Oss]);
        drop(&mut || self.dsp_policy = None, &[K::Oss]);
        for io in [&mut self.input, &mut self.output] {
            // Fixed settings are there even if they say nothing; others are not unless they say something.
            if io.fixed_settings == Some(true) {
                io.settings.get_or_insert_default();
            }
            drop(&mut || io.dev = None, &[K::Alsa, K::Oss]);
            drop(&mut || io.buffer_count = None, &[K::Coreaudio, K::Oss, K::Sdl]);
            drop(&mut || io.try_poll = None, &[K::Alsa, K::Oss]);
            drop(&mut || io.server_name = None, &[K::Jack]);
            drop(&mut || io.client_name = None, &[K::Jack]);
            drop(&mut || io.connect_ports = None, &[K::Jack]);
            drop(&mut || io.exact_name = None, &[K::Jack]);
            drop(&mut || io.name = None, &[K::Pulseaudio, K::Pipewire]);
            drop(&mut || io.stream_name = None, &[K::Pulseaudio, K::Pipewire]);
            drop(&mut || io.latency = None, &[K::Pulseaudio, K::Pipewire]);
        }
        Ok(())
    }
}

/// One direction of sound.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct AudioIo {
    #[xml(attr = "mixingEngine", with = YesNo)]
    pub mixing_engine: Option<bool>,
    #[xml(attr = "fixedSettings", with = YesNo)]
    pub fixed_settings: Option<bool>,
    #[xml(attr, with = NonZero)]
    pub voices: Option<u32>,
    /// Microseconds.
    #[xml(attr = "bufferLength", with = NonZero)]
    pub buffer_length: Option<u32>,
    #[xml(attr)]
    pub dev: Option<String>,
    #[xml(attr = "bufferCount", read_if = not_zero)]
    pub buffer_count: Option<u32>,
    #[xml(attr = "tryPoll", with = YesNo)]
    pub try_poll: Option<bool>,
    #[xml(attr = "serverName")]
    pub server_name: Option<String>,
    #[xml(attr = "clientName")]
    pub client_name: Option<String>,
    #[xml(attr = "connectPorts")]
    pub connect_ports: Option<String>,
    #[xml(attr = "exactName", with = YesNo)]
    pub exact_name: Option<bool>,
    #[xml(attr)]
    pub name: Option<String>,
    #[xml(attr = "streamName")]
    pub stream_name: Option<String>,
    /// Microseconds.
    #[xml(attr, read_if = not_zero)]
    pub latency: Option<u32>,
    #[xml(child)]
    pub settings: Option<AudioSettings>,
}

/// A fixed sample format.
#[derive(Debug, Clone, Default, PartialEq, Xml)]
pub struct AudioSettings {
    /// Hertz.
    #[xml(attr, with = NonZero)]
    pub frequency: Option<u32>,
    #[xml(attr, with = NonZero)]
    pub channels: Option<u32>,
    #[xml(attr)]
    pub format: Option<SampleFormat>,
}
