//! `-audiodev`: the host's audio systems.

use serde_json::Value;

use super::Builder;
use super::props::Props;
use crate::document::types::{Audio, AudioIo, AudioKind, SampleFormat};

impl Builder<'_> {
    pub(super) fn audio(&mut self, audio: &Audio) -> Props {
        let driver = match audio.kind {
            AudioKind::Pulseaudio => "pa",
            AudioKind::File => "wav",
            kind => kind.as_str(),
        };
        let mut props = Props::new()
            .with("id", format!("audio{}", audio.id))
            .with("driver", driver)
            .opt("timer-period", audio.timer_period);
        match audio.kind {
            AudioKind::Oss => {
                props = props
                    .opt("try-mmap", audio.try_mmap)
                    .opt("exclusive", audio.exclusive)
                    .opt("dsp-policy", audio.dsp_policy);
            }
            AudioKind::Pulseaudio => props = props.opt("server", audio.server_name.as_deref()),
            AudioKind::File => props = props.opt("path", audio.path.as_deref()),
            AudioKind::Sdl => {
                if let Some(driver) = audio.driver {
                    self.line.env.push(("SDL_AUDIODRIVER".into(), driver.as_str().to_string()));
                }
            }
            AudioKind::Pipewire => {
                if let Some(folder) = &audio.runtime_dir {
                    self.line.env.push(("PIPEWIRE_RUNTIME_DIR".into(), folder.clone()));
                }
            }
            _ => {}
        }
        for (key, io) in [("in", &audio.input), ("out", &audio.output)] {
            let direction = direction(audio.kind, io);
            if !direction.is_empty() {
                props.put(key, Value::from(direction));
            }
        }
        props
    }
}

/// One direction; each system has its own settings beside the common ones.
fn direction(kind: AudioKind, io: &AudioIo) -> Props {
    let s = io.settings.clone().unwrap_or_default();
    let format = s.format.filter(|f| *f != SampleFormat::Default).map(|f| f.as_str());
    let props = Props::new()
        .opt("mixing-engine", io.mixing_engine)
        .opt("fixed-settings", io.fixed_settings)
        .opt("voices", io.voices)
        .opt("buffer-length", io.buffer_length)
        .opt("frequency", s.frequency)
        .opt("channels", s.channels)
        .opt("format", format);
    match kind {
        AudioKind::Alsa => props.opt("dev", io.dev.as_deref()),
        AudioKind::Oss => props
            .opt("dev", io.dev.as_deref())
            .opt("buffer-count", io.buffer_count)
            .opt("try-poll", io.try_poll),
        AudioKind::Coreaudio | AudioKind::Sdl => props.opt("buffer-count", io.buffer_count),
        AudioKind::Jack => props
            .opt("server-name", io.server_name.as_deref())
            .opt("client-name", io.client_name.as_deref())
            .opt("connect-ports", io.connect_ports.as_deref())
            .opt("exact-name", io.exact_name),
        AudioKind::Pulseaudio | AudioKind::Pipewire => props
            .opt("name", io.name.as_deref())
            .opt("stream-name", io.stream_name.as_deref())
            .opt("latency", io.latency),
        _ => props,
    }
}
