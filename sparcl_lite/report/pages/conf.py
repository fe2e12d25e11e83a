"""How Sphinx makes the report and the documentation; `sparcl_lite.report.site` lays the sources out."""

project = "sparcl_lite"
author = "sparcl_lite developers"
extensions = ["myst_nb"]
exclude_patterns = ["_build"]
nb_execution_mode = "off"  # notebooks come with their outputs
nb_merge_streams = True
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
suppress_warnings = [
    "myst.xref_missing",
    "misc.highlighting_failure",
    "mystnb.unknown_mime_type",
]  # links to source files

html_theme = "pydata_sphinx_theme"
html_title = "sparcl_lite"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system
html_static_path = ["static"]
html_css_files = ["kit.css"]
html_js_files = ["scoreboard.js"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "footer_start": [],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"index": [], "scoreboard": [], "machine": []}
