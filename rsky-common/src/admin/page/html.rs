//! HTML that cannot be broken by what is put into it: markup is known when this is compiled, everything else is escaped.

/// A piece of HTML.
#[derive(Debug, Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Text, within an element or a quoted attribute.
    pub(super) fn text(&mut self, text: impl AsRef<str>) -> &mut Self {
        for character in text.as_ref().chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                _ => self.0.push(character),
            }
        }
        self
    }

    /// A number, in an attribute or in text.
    pub(super) fn figure(&mut self, figure: f64) -> &mut Self {
        self.0.push_str(&format!("{:.1}", if figure.is_finite() { figure } else { 0.0 }));
        self
    }

    /// An element with text in it. `open` and `close` are its tags.
    pub(super) fn element(
        &mut self,
        open: &'static str,
        text: impl AsRef<str>,
        close: &'static str,
    ) -> &mut Self {
        self.raw(open).text(text).raw(close)
    }

    pub(super) fn into_string(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_text_or_attribute() {
        let mut html = Html::default();
        html.raw("<a title=\"").text("\"'><script>&").raw("\">").figure(f64::NAN).raw("</a>");
        assert_eq!(html.into_string(), "<a title=\"&quot;&#39;&gt;&lt;script&gt;&amp;\">0.0</a>");
    }
}
