"""What was asked for: the question's own lines, as they stand."""
import os
import subprocess
import sys

import kvfs
from support import Case


class Question(Case):
    def test_the_lines_of_the_question(self):
        d = kvfs.Dict(self.path)
        text = 'some text'
        random = os.urandom
        made = []
        os.urandom = lambda n: made.append(random(n)) or made[-1]
        try:
            d['hello'] = 17
            d[183] = [12, 14, 24]
            d[os.urandom(10)] = text
            d.flush()
            d.close()
        finally:
            os.urandom = random
        again = kvfs.Dict(self.path)
        self.assertEqual(again['hello'], 17)
        self.assertEqual(again[183], [12, 14, 24])
        self.assertEqual(again[made[0]], text)
        self.assertEqual(dict(again), {'hello': 17, 183: [12, 14, 24], made[0]: text})
        again.close()

    def test_another_process_reads_what_one_has_written(self):
        with kvfs.Dict(self.path) as d:
            d['hello'] = 17
            script = 'import kvfs, sys; d = kvfs.Dict(sys.argv[1]); d["hello"] += 1; print(d["hello"])'
            out = subprocess.run([sys.executable, '-c', script, self.path], capture_output=True, text=True, check=True)
            self.assertEqual(out.stdout, '18\n')
            self.assertEqual(d['hello'], 18)

    def test_the_start_in_the_readme(self):
        readme = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..', 'README.md')
        with open(readme, encoding='utf-8') as f:
            script = f.read().split('## From Python')[1].split('```python\n')[1].split('```')[0]
        script = script.replace('/tmp/words', self.path).replace('@notes', self.fresh())
        out = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
        self.assertEqual((out.stdout, out.stderr), ("100001 ['log/000099', 'log/000098', 'log/000097']\n", ''))

    def test_the_command_sees_a_key_by_its_name(self):
        with kvfs.Dict(self.path) as d:
            d['hello'] = 17
            d[183] = [12, 14, 24]
        kvfs_bin = os.environ.get('KVFS_BIN') or os.path.join(os.environ['PYTHONPATH'].split(':')[0], '..', 'kvfs')
        out = subprocess.run([kvfs_bin, '-s', self.path, 'get', 'int:183'], capture_output=True, text=True, check=True)
        self.assertEqual(out.stdout, '[12, 14, 24]')
