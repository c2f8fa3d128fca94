"""The status page: the desk's views as HTML, for a browser on the bench, a phone beside the rack and a dashboard.

Everything is rendered here and works without a script.  With one, the page hears of changes by the event stream of the
API and takes what is new from here again: there is one rendering.  It only shows; what would change something is told
as the command to type.

The names of devices, the reasons of people and the words of firmware are shown as they came, so they are strangers'
text: every value is escaped and made printable on its way into a template, and the content security policy lets
nothing run or load that is not a file of ours.
"""
