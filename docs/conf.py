"""How Sphinx makes a site of these pages: ``make site``, with warnings as errors."""

project = "Firmwarden"
html_title = project
extensions = ["myst_parser"]
root_doc = "index"
# index.md takes README.md in; fragments of the changelog are no pages.
exclude_patterns = ["README.md", "changelog.d"]
# Anchors as GitHub makes them, so that links hold in both.
myst_heading_anchors = 4
html_theme = "furo"  # brings its fonts, styles and scripts with it
html_copy_source = False
html_show_copyright = False
html_use_index = False
