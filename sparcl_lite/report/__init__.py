"""What a reader sees: tables with the paper's value beside ours, figures with their points, scoreboards of claims."""
