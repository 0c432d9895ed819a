//! Sound cards and the host's audio systems.

use crate::document::types::{CodecKind, Sound, SoundModel, VirtioModel};

use super::Builder;
use super::address::virtio;
use super::props::Props;

impl Builder<'_> {
    /// `audioN` of a device's choice, or of the guest's first audio system.
    pub(super) fn audio_id(&self, chosen: Option<u32>) -> Option<String> {
        let first = self.def.devices.audios.first().map(|a| a.id);
        chosen.filter(|n| *n > 0).or(first).map(|n| format!("audio{n}"))
    }

    /// Audio systems.
    pub(super) fn audios(&mut self) {
        let def = self.def;
        for audio in &def.devices.audios {
            let props = self.audio(audio);
            self.line.arg("-audiodev", props.to_string());
        }
    }

    /// Sound cards.
    pub(super) fn sounds(&mut self) {
        let def = self.def;
        for sound in &def.devices.sounds {
            self.sound(sound);
        }
    }

    fn sound(&mut self, sound: &Sound) {
        let alias = sound.info.alias.clone().unwrap_or_default();
        let audio = self.audio_id(sound.audio);
        let driver = match sound.model {
            // The speaker is part of the machine; its audio is a machine option.
            SoundModel::Pcspk => return,
            SoundModel::Es1370 => "ES1370",
            SoundModel::Ac97 => "AC97",
            SoundModel::Ich6 | SoundModel::Ich7 => "intel-hda",
            SoundModel::Ich9 => "ich9-intel-hda",
            SoundModel::Usb => "usb-audio",
            SoundModel::Sb16 => "sb16",
            SoundModel::Virtio => "virtio-sound",
        };
        let hda = matches!(sound.model, SoundModel::Ich6 | SoundModel::Ich7 | SoundModel::Ich9);
        let props = if sound.model == SoundModel::Virtio {
            virtio(driver, Some(VirtioModel::Default), &sound.info, &sound.driver)
        } else {
            Props::driver(driver)
        };
        let props = props
            .with("id", alias.as_str())
            .opt("multi", sound.multichannel)
            .opt("audiodev", audio.clone().filter(|_| !hda))
            .opt("streams", sound.streams);
        let props = self.place(props, &sound.info);
        self.line.device(props);
        if !hda {
            return;
        }
        let duplex = [CodecKind::Duplex];
        let given: Vec<CodecKind> = sound.codecs.iter().map(|c| c.kind).collect();
        let codecs = if given.is_empty() { &duplex[..] } else { &given[..] };
        for (i, kind) in codecs.iter().enumerate() {
            let name = match kind {
                CodecKind::Duplex => "hda-duplex",
                CodecKind::Micro => "hda-micro",
                CodecKind::Output => "hda-output",
            };
            self.line.device(
                Props::driver(name)
                    .with("id", format!("{alias}-codec{i}"))
                    .with("bus", format!("{alias}.0"))
                    .with("cad", i)
                    .opt("audiodev", audio.clone()),
            );
        }
    }
}
