"""The foundation: errors, settings, records, files, text, figures, parallel work, timing."""
