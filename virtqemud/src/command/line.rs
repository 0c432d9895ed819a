//! The finished command line: program, arguments, environment, and its text form.

use super::props::{Opts, Props};

/// A command line of QEMU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommandLine {
    /// The binary.
    pub program: String,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The whole environment of the process.
    pub env: Vec<(String, String)>,
}

impl CommandLine {
    /// A flag without a value: `-S`.
    pub fn flag(&mut self, flag: &str) {
        self.args.push(flag.to_string());
    }

    /// A flag with a value.
    pub fn arg(&mut self, flag: &str, value: impl Into<String>) {
        self.args.push(flag.to_string());
        self.args.push(value.into());
    }

    /// A flag with `key=value` options.
    pub fn opts(&mut self, flag: &str, opts: Opts) {
        self.arg(flag, opts.to_string());
    }

    /// `-device {...}`
    pub fn device(&mut self, props: Props) {
        self.arg("-device", props.to_string());
    }

    /// `-object {...}`
    pub fn object(&mut self, props: Props) {
        self.arg("-object", props.to_string());
    }

    /// The whole line as text for a POSIX shell: environment, program, arguments, one space between.
    pub fn to_shell(&self) -> String {
        let mut out = String::new();
        for (key, value) in &self.env {
            out.push_str(key);
            out.push('=');
            quote(&mut out, value);
            out.push(' ');
        }
        quote(&mut out, &self.program);
        for arg in &self.args {
            out.push(' ');
            quote(&mut out, arg);
        }
        out
    }
}

fn quote(out: &mut String, text: &str) {
    const SPECIAL: &str = "\r\t\n !\"#$&'()*;<>?[\\]^`{|}~";
    if text.is_empty() {
        out.push_str("''");
    } else if !text.contains(|c| SPECIAL.contains(c)) {
        out.push_str(text);
    } else {
        out.push('\'');
        out.push_str(&text.replace('\'', "'\\''"));
        out.push('\'');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_survives_a_shell() {
        let mut line = CommandLine { program: "/usr/bin/qemu".into(), ..Default::default() };
        line.env.push(("LC_ALL".into(), "C".into()));
        line.opts("-name", Opts::new("").with("guest", "a,b"));
        line.arg("-append", "it's $HOME");
        line.device(Props::driver("VGA").with("id", "video0").with("vgamem_mb", 16));
        assert_eq!(
            line.to_shell(),
            r#"LC_ALL=C /usr/bin/qemu -name guest=a,,b -append 'it'\''s $HOME' -device '{"driver":"VGA","id":"video0","vgamem_mb":16}'"#
        );
    }
}
