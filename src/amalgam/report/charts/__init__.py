"""The charts of the report, as Vega-Lite specifications made with Altair; `amalgam.report.svg` draws them."""
