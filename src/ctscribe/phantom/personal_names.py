"""People that do not exist: Chinese names with their pinyin, names of peoples, English names.

Rare surnames and given names are among them, which no list of common ones holds.
"""

# ruff: noqa: SIM905, E501 - lists of words read better as words
from __future__ import annotations

# "character pinyin", most common first; the last two lines are rare surnames.
SURNAMES: tuple[tuple[str, str], ...] = tuple(
    (pair[0], pair[1:])
    for pair in (
        "王Wang 李Li 张Zhang 刘Liu 陈Chen 杨Yang 黄Huang 赵Zhao 吴Wu 周Zhou 徐Xu 孙Sun 马Ma 朱Zhu 胡Hu "
        "郭Guo 何He 林Lin 罗Luo 高Gao 郑Zheng 梁Liang 谢Xie 宋Song 唐Tang 许Xu 韩Han 邓Deng 冯Feng "
        "曹Cao 彭Peng 曾Zeng 肖Xiao 田Tian 董Dong 潘Pan 袁Yuan 蔡Cai 蒋Jiang 余Yu 于Yu 杜Du 叶Ye 程Cheng "
        "魏Wei 苏Su 吕Lyu 丁Ding 任Ren 卢Lu 姚Yao 沈Shen 钟Zhong 姜Jiang 崔Cui 谭Tan 陆Lu 范Fan 汪Wang "
        "廖Liao 石Shi 金Jin 韦Wei 贾Jia 夏Xia 付Fu 方Fang 邹Zou 熊Xiong 白Bai 孟Meng 秦Qin 邱Qiu 侯Hou "
        "江Jiang 尹Yin 薛Xue 闫Yan 段Duan 雷Lei 龙Long 黎Li 史Shi 陶Tao 贺He 毛Mao 郝Hao 顾Gu 龚Gong "
        "邵Shao 万Wan 覃Qin 武Wu 钱Qian 戴Dai 严Yan 莫Mo 孔Kong 向Xiang 常Chang 温Wen 左Zuo 成Cheng 安An "
        "仉Zhang 缑Gou 逯Lu 亓Qi 逄Pang 昝Zan 麴Qu 郗Xi 佘She 苌Chang 郜Gao 笪Da 蒯Kuai 眭Sui 阙Que "
        "冼Xian 爨Cuan 逮Dai 揭Jie 隗Wei 鞠Ju 仝Tong 晏Yan 桑Sang 牟Mu 储Chu 缪Miao 瞿Qu 芦Lu 岑Cen"
    ).split()
)
COMPOUND: tuple[tuple[str, str], ...] = (
    ("欧阳", "Ouyang"),
    ("司马", "Sima"),
    ("诸葛", "Zhuge"),
    ("上官", "Shangguan"),
    ("皇甫", "Huangfu"),
    ("令狐", "Linghu"),
    ("慕容", "Murong"),
    ("尉迟", "Yuchi"),
    ("澹台", "Tantai"),
    ("东方", "Dongfang"),
)
GIVEN: tuple[tuple[str, str], ...] = tuple(
    (pair[0], pair[1:])
    for pair in (
        "伟wei 芳fang 娜na 敏min 静jing 丽li 强qiang 磊lei 军jun 洋yang 勇yong 艳yan 杰jie 娟juan 涛tao "
        "明ming 超chao 秀xiu 霞xia 平ping 刚gang 桂gui 英ying 华hua 建jian 国guo 文wen 志zhi 玉yu 兰lan "
        "红hong 春chun 梅mei 海hai 燕yan 云yun 龙long 飞fei 鹏peng 宇yu 浩hao 轩xuan 子zi 涵han 梓zi 萱xuan "
        "雨yu 欣xin 怡yi 佳jia 琪qi 思si 晓xiao 东dong 卫wei 民min 福fu 贵gui 根gen 生sheng 土tu 金jin 水shui "
        "光guang 荣rong 德de 宝bao 树shu 林lin 松song 凤feng 珍zhen 莲lian 芬fen 琴qin 萍ping 蓉rong 莉li "
        "博bo 睿rui 昊hao 皓hao 煜yu 懿yi 彧yu 翀chong 垚yao 淼miao 焱yan 骞qian 珺jun 妤yu 瑾jin 昱yu "
        "之zhi 一yi 安an 正zheng 中zhong 大da 小xiao 长chang 成cheng 立li 新xin 天tian 永yong 高gao 清qing"
    ).split()
)
PEOPLES = (
    "阿卜杜拉·买买提",
    "古丽娜尔·艾合买提",
    "买买提·吐尔逊",
    "热依汗古丽·阿不都热合曼",
    "巴合提亚尔·哈力克",
    "扎西·多吉",
    "努尔兰•别克",
    "帕提古丽·玉素甫",
)
FIRST = (
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Susan Richard "
    "Jessica Joseph Sarah Thomas Karen Charles Nancy Daniel Lisa Mark Betty Anthony Sandra George "
    "Siobhan Aoife Priya Rajesh Ananya Fatima Mohammed Yusuf Kwame Ngozi Olga Dmitri Hiroshi Yuki "
    "Jean-Luc Anne-Marie Bjorn Zbigniew Xochitl Thandiwe Ioannis Marisol Quincy Delphine"
).split()
LAST = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Wilson Anderson Taylor Moore Martin Lee "
    "Thompson White Harris Clark Lewis Walker Hall Young King Wright Hill Green Baker Adams Nelson "
    "O'Connell McDonald MacGregor Fitzgerald Nakamura Patel Krishnan Okonkwo Abdullah Kowalczyk "
    "Papadopoulos Szymanski Nguyen Tran Haddad Lindqvist Vukovic Achterberg Mbeki Smith-Jones "
    "D'Angelo Featherstonehaugh Park Long Rose"
).split()
PREFIXED = ("van der Berg", "de la Cruz", "von Stein", "El-Sayed", "Di Marco")
